import { setMaxListeners } from 'node:events';

/** Settles with `promise`, or rejects with `signal.reason` as soon as it aborts; what is waited for goes on. */
export function abortable<T>(promise: Promise<T>, { signal }: { signal: AbortSignal }): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal.reason);
    // One signal ends the work on all hosts: many listeners are no leak here.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', giveUp);
    if (signal.aborted) giveUp();
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp));
  });
}
