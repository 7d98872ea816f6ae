import type { Clock } from '../ports/clock.ts';

/** The time that one connection may take in all its attempts. Waiting for others is not charged. */
export class ConnectBudget {
  readonly #clock: Clock;
  #leftMs: number;

  constructor(ms: number, clock: Clock) {
    this.#leftMs = ms;
    this.#clock = clock;
  }

  /** At least 1: a timer of nothing would never fire. */
  get leftMs(): number {
    return Math.max(1, this.#leftMs);
  }

  async spend<T>(task: (leftMs: number) => Promise<T>): Promise<T> {
    const startMs = this.#clock.monotonicMs();
    try {
      return await task(this.leftMs);
    } finally {
      this.#leftMs -= this.#clock.monotonicMs() - startMs;
    }
  }
}
