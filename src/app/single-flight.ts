import { setMaxListeners } from 'node:events';

interface Flight<T> {
  readonly landed: Promise<T>;
  readonly cancel: AbortController;
  passengers: number;
}

/**
 * Lets concurrent calls for the same key share one run. Whoever is cancelled stops waiting; the run itself is
 * cancelled only when nobody waits any more, and then the last one waits until it has ended.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** Rejects with `signal.reason` when aborted. `work` gets a signal of its own. */
  async run(
    key: string,
    work: (options: { signal: AbortSignal }) => Promise<T>,
    { signal }: { signal: AbortSignal },
  ): Promise<T> {
    for (;;) {
      signal.throwIfAborted();
      const flight = this.#flights.get(key) ?? this.#start(key, work);
      if (!flight.cancel.signal.aborted) return await this.#ride(flight, signal);
      await settled(flight.landed);
    }
  }

  #start(key: string, work: (options: { signal: AbortSignal }) => Promise<T>): Flight<T> {
    const cancel = new AbortController();
    const landed = work({ signal: cancel.signal }).finally(() => this.#flights.delete(key));
    const flight: Flight<T> = { landed, cancel, passengers: 0 };
    this.#flights.set(key, flight);
    return flight;
  }

  async #ride(flight: Flight<T>, signal: AbortSignal): Promise<T> {
    flight.passengers += 1;
    try {
      return await unlessAborted(flight.landed, signal);
    } finally {
      flight.passengers -= 1;
      if (flight.passengers === 0) {
        flight.cancel.abort(signal.reason);
        await settled(flight.landed);
      }
    }
  }
}

/** Rejects with `signal.reason` as soon as it aborts; the promise goes on. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  // Many wait side by side under the signal of one command: no leak.
  setMaxListeners(0, signal);
  let stop: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function settled(promise: Promise<unknown>): Promise<void> {
  await Promise.allSettled([promise]);
}
