import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { readBundlePem } from '../../src/domain/x509.ts';

export interface BundleSightings {
  readonly reads: number;
  /** Leaves that lay there, in their order (SHA-256, lower-case hex). */
  readonly leaves: readonly string[];
  /** Every state in which HAProxy could not have started. */
  readonly unloadable: readonly string[];
}

/** Reads a host's bundle again and again, as HAProxy would at a start, until `stop`. */
export function watchBundle(path: string): { stop(): Promise<BundleSightings> } {
  const stopped = new AbortController();
  const leaves: string[] = [];
  const unloadable: string[] = [];
  let reads = 0;
  const look = async () => {
    let last: string | undefined;
    while (!stopped.signal.aborted) {
      const pem = await readFile(path, 'utf8').catch((error: Error) => `missing: ${error.message}`);
      reads++;
      if (pem !== last) {
        const judged = readBundlePem(pem);
        if (judged.state === 'loadable') leaves.push(judged.facts.fingerprint256);
        else unloadable.push(judged.reason);
      }
      last = pem;
      await sleep(1); // Leaves the processor to those who are watched.
    }
  };
  const looking = look();
  return {
    stop: async () => {
      stopped.abort();
      await looking;
      return { reads, leaves, unloadable };
    },
  };
}
