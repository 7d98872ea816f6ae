import type { Clock } from '../../../src/ports/clock.ts';

export interface MovingClock extends Clock {
  /** Every wait asked for, in milliseconds. */
  readonly slept: readonly number[];
}

/** A clock that moves only by being waited for: waits end at once, and time has passed. */
export function movingClock(start = new Date('2026-03-01T12:00:00Z')): MovingClock {
  let passedMs = 0;
  const slept: number[] = [];
  return {
    slept,
    now: () => new Date(start.getTime() + passedMs),
    monotonicMs: () => passedMs,
    sleep: async (ms, { signal }) => {
      signal.throwIfAborted();
      slept.push(ms);
      passedMs += ms;
    },
  };
}
