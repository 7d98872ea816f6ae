import { setTimeout } from 'node:timers/promises';
import type { Clock } from '../../src/ports/clock.ts';

/** The real one: what these tests wait for comes from the kernel. */
export const realClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  async sleep(ms, { signal }) {
    try {
      await setTimeout(ms, undefined, { signal });
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    }
  },
};
