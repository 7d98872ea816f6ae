import { type EventLoopUtilization, performance } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** V8 gives pages back at a collection after quiet seconds: the second one has what the first one has not. */
const LOOK_EVERY_MS = 4_000;
/** Between two times that it does both. */
const PAUSE_MS = 60_000;
/** Share of the time in which something is done. */
const QUIET_UTILIZATION = 0.1;
/** A collection costs 20 ms and more: less than this is not worth one. */
const WORTHWHILE_BYTES = 8 * 1024 * 1024;

/**
 * Has V8 give back what start-up and rollouts left behind. By itself it collects a heap when it runs full, which that of a
 * service that holds a few certificates does not for weeks, and keeps the room that a rollout to many hosts took. Returns how
 * to call it off.
 */
export function keepMemorySmall(): () => void {
  // WebAssembly (undici's HTTP parser, ssh2's Poly1305) has little to do here, and optimizing it takes 25 MB for a moment.
  setFlagsFromString('--no-wasm-tier-up');
  let collections = 0;
  let collectedMs = performance.now();
  let smallestBytes = 0;
  let since: EventLoopUtilization = performance.eventLoopUtilization();
  const timer = setInterval(() => {
    const { utilization } = performance.eventLoopUtilization(since);
    since = performance.eventLoopUtilization();
    if (utilization > QUIET_UTILIZATION) return;
    if (collections === 2) {
      const grownBytes = getHeapStatistics().total_heap_size - smallestBytes;
      if (grownBytes < WORTHWHILE_BYTES || performance.now() - collectedMs < PAUSE_MS) return;
      collections = 0;
    }
    collections += 1;
    collectGarbage();
    collectedMs = performance.now();
    smallestBytes = getHeapStatistics().total_heap_size;
  }, LOOK_EVERY_MS);
  return () => clearInterval(timer);
}

/** Holds the process up for some 20 ms. Exported for its test. */
export function collectGarbage(): void {
  // The one way to it that asks nobody to start Node with a flag.
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('globalThis.gc');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect();
}
