import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** The first one collects what start-up needed for a moment; V8 gives the pages back at one after quiet seconds. */
const COLLECT_AFTER_MS = [2_000, 8_000];

/**
 * Has V8 give back what start-up left behind (7 of 74 MB, measured). By itself it collects a heap when it runs
 * full, which that of a service that holds a few certificates does not for weeks. Returns how to call it off.
 */
export function shrinkAfterStartUp(): () => void {
  const timers = COLLECT_AFTER_MS.map((ms) => setTimeout(collectGarbage, ms));
  return () => {
    for (const timer of timers) clearTimeout(timer);
  };
}

/** Holds the process up for some 20 ms. Exported for its test. */
export function collectGarbage(): void {
  // The one way to it that asks nobody to start Node with a flag.
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect();
}
