import { setMaxListeners } from 'node:events';

/** Node-style completion of an operation that begins now and may never call back. */
export type Done<T> = (error: Error | null | undefined, value?: T) => void;

export interface Bounds<T> {
  /** The caller's cancellation, and what the operation runs over: nothing can come once that is gone. */
  readonly until: readonly AbortSignal[];
  readonly timeoutMs: number;
  readonly onTimeout: () => Error;
  /** Called when it begins; what it returns is called when it has ended. */
  readonly enter?: () => () => void;
  /** Called with a result that comes after the wait was given up, to let go of it. */
  readonly release?: (late: T) => void;
}

/**
 * Settles with the operation, or at once when a signal of `until` aborts (with its reason), or after
 * `timeoutMs`. `AbortSignal.any` would do the same, but holds on to long-lived signals in Node 20.
 */
export function bounded<T>(
  start: (done: Done<T>) => void,
  { until, timeoutMs, onTimeout, enter, release }: Bounds<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let settled = false;
    let leave: (() => void) | undefined;
    const settle = (finish: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      leave?.();
      for (const signal of until) signal.removeEventListener('abort', onAbort);
      finish();
    };
    const onAbort = () => settle(() => reject(until.find((signal) => signal.aborted)?.reason));
    const timer = setTimeout(() => settle(() => reject(onTimeout())), timeoutMs);
    for (const signal of until) {
      // One signal ends the work on all hosts: many listeners are no leak here.
      setMaxListeners(0, signal);
      signal.addEventListener('abort', onAbort);
    }
    if (until.some((signal) => signal.aborted)) return onAbort();
    leave = enter?.();
    try {
      start((error, value) => {
        if (settled && !error) release?.(value as T);
        settle(() => (error ? reject(error) : resolve(value as T)));
      });
    } catch (error) {
      settle(() => reject(error));
    }
  });
}
