import { PriorityQueue } from './priority-queue.ts';

interface Event {
  readonly atMs: number;
  readonly run: () => void;
}

/** A clock that jumps from one thing to do to the next. */
export class VirtualClock {
  #now: Date;
  readonly #endMs: number;
  readonly #events = new PriorityQueue<Event>((a, b) => a.atMs < b.atMs);

  constructor(from: Date, end: Date) {
    this.#now = from;
    this.#endMs = end.getTime();
  }

  get now(): Date {
    return this.#now;
  }

  /** Calls `run` when the clock is there; at once in its turn for the past, never for the end or later. */
  at(atMs: number, run: () => void): void {
    if (atMs < this.#endMs) this.#events.push({ atMs, run });
  }

  run(): void {
    for (let event = this.#events.pop(); event !== undefined; event = this.#events.pop()) {
      if (event.atMs > this.#now.getTime()) this.#now = new Date(event.atMs);
      event.run();
    }
  }
}
