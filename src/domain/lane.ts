import { setMaxListeners } from 'node:events';

/**
 * Lets a bounded number of tasks run at a time, in the order of asking. A task that is cancelled while it runs ends by
 * itself and is waited for, since it may have something to undo.
 */
export class Lane {
  #free: number;
  /** How each waiting task is let in, the first to ask first. */
  readonly #waiting = new Set<() => void>();

  constructor(concurrency: number) {
    this.#free = concurrency;
  }

  /** Rejects with `signal.reason` at once, without having run the task, when aborted before its turn. */
  async run<T>(task: () => Promise<T>, { signal }: { signal: AbortSignal }): Promise<T> {
    signal.throwIfAborted();
    await this.#turn(signal);
    try {
      signal.throwIfAborted();
      return await task();
    } finally {
      this.#leave();
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    // One signal ends the work on all hosts: many listeners are no leak here.
    setMaxListeners(0, signal);
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        signal.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.delete(enter);
        reject(signal.reason);
      };
      this.#waiting.add(enter);
      signal.addEventListener('abort', giveUp, { once: true });
    });
  }

  /** The place goes straight to the next in line, so that nobody who comes just now overtakes it. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}

/** The lane of this id, made when there is none yet. */
export function laneOf(lanes: Map<string, Lane>, id: string, concurrency: number): Lane {
  const lane = lanes.get(id) ?? new Lane(concurrency);
  lanes.set(id, lane);
  return lane;
}
