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

  /** Runs the next `events` things to do, and what they bring about. Returns whether there are more. */
  advance(events: number): boolean {
    for (let left = events; left > 0; left--) {
      const event = this.#events.pop();
      if (event === undefined) return false;
      if (event.atMs > this.#now.getTime()) this.#now = new Date(event.atMs);
      event.run();
    }
    return true;
  }
}
