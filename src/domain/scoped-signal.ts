import { setMaxListeners } from 'node:events';

/** A signal for one piece of work. Disposed of with it, so that nothing is left on the signals it followed. */
export interface ScopedSignal extends Disposable {
  readonly signal: AbortSignal;
}

/**
 * Aborts with the first of `sources`, and with its reason. `AbortSignal.any` would do the same, but holds on to
 * long-lived signals in Node 20. The work on each of a thousand hosts has one of its own: adding and removing a listener
 * goes through the list of all others of the same signal.
 */
export function scopedSignal(...sources: readonly AbortSignal[]): ScopedSignal {
  const own = new AbortController();
  const follow = (event: Event) =>
    own.abort(event.target instanceof AbortSignal ? event.target.reason : undefined);
  for (const source of sources) {
    setMaxListeners(0, source);
    if (source.aborted) own.abort(source.reason);
    source.addEventListener('abort', follow, { once: true });
  }
  return {
    signal: own.signal,
    [Symbol.dispose]: () => {
      for (const source of sources) source.removeEventListener('abort', follow);
    },
  };
}
