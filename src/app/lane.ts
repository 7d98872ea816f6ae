import PQueue from 'p-queue';

/**
 * Lets a bounded number of tasks run at a time. A task that is cancelled ends by itself and is waited for, since it
 * may have something to undo: the queue's own way of cancelling would let go of it at once.
 */
export class Lane {
  readonly #queue: PQueue;

  constructor(concurrency: number) {
    this.#queue = new PQueue({ concurrency });
  }

  /** Rejects with `signal.reason`, without having run the task, when aborted before its turn. */
  run<T>(task: () => Promise<T>, { signal }: { signal: AbortSignal }): Promise<T> {
    return this.#queue.add(() => {
      signal.throwIfAborted();
      return task();
    });
  }
}
