import { setMaxListeners } from 'node:events';

/**
 * A bound on one exchange: `signal` aborts with the caller's reason, or when the time is up (`expired`). Let go
 * with `clear`. `AbortSignal.any` would do the same, but holds on to long-lived signals in Node 20.
 */
export class Deadline {
  readonly #controller = new AbortController();
  readonly #caller: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = () => this.#controller.abort(this.#caller.reason);
  expired = false;

  constructor(ms: number, { signal }: { signal: AbortSignal }) {
    signal.throwIfAborted();
    this.#caller = signal;
    allowManyWaits(signal);
    signal.addEventListener('abort', this.#onAbort);
    this.#timer = setTimeout(() => {
      this.expired = true;
      this.#controller.abort(new DOMException(`not within ${ms} ms`, 'TimeoutError'));
    }, ms);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#caller.removeEventListener('abort', this.#onAbort);
  }
}

/** Many exchanges wait side by side under one signal: that is no leak, so Node shall not warn of eleven. */
export const allowManyWaits = (signal: AbortSignal): void => setMaxListeners(0, signal);
