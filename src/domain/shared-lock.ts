interface Waiting {
  readonly exclusive: boolean;
  readonly enter: () => void;
}

/** Many tasks that share, or one that is alone, in the order of asking. */
export class SharedLock {
  /** How many share now; -1 while one is alone. */
  #holders = 0;
  readonly #waiting = new Set<Waiting>();

  /** Runs beside others that share. Rejects with `signal.reason` when aborted before its turn. */
  shared<T>(task: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    return this.#run(false, task, options);
  }

  /** Runs alone. Rejects with `signal.reason` when aborted before its turn. */
  exclusive<T>(task: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    return this.#run(true, task, options);
  }

  async #run<T>(exclusive: boolean, task: () => Promise<T>, { signal }: { signal: AbortSignal }): Promise<T> {
    signal.throwIfAborted();
    await this.#turn(exclusive, signal);
    try {
      signal.throwIfAborted();
      return await task();
    } finally {
      this.#holders = exclusive ? 0 : this.#holders - 1;
      this.#letIn();
    }
  }

  async #turn(exclusive: boolean, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        exclusive,
        enter: () => {
          signal.removeEventListener('abort', giveUp);
          resolve();
        },
      };
      const giveUp = () => {
        this.#waiting.delete(waiting);
        reject(signal.reason);
        // Those behind it may share.
        this.#letIn();
      };
      this.#waiting.add(waiting);
      signal.addEventListener('abort', giveUp, { once: true });
      this.#letIn();
    });
  }

  #letIn(): void {
    for (const waiting of this.#waiting) {
      const free = waiting.exclusive ? this.#holders === 0 : this.#holders >= 0;
      if (!free) return;
      this.#waiting.delete(waiting);
      this.#holders = waiting.exclusive ? -1 : this.#holders + 1;
      waiting.enter();
    }
  }
}
