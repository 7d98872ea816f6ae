import { HostError } from '../domain/host-error.ts';
import type { Clock } from '../ports/clock.ts';
import type { RuntimeApi } from './runtime-api.ts';

/** A client that is alive commits within milliseconds of its `set`; a person at a terminal takes longer. */
const ABANDONED_AFTER_MS = 5_000;

/** A pending transaction as it was seen. */
export interface Sighting {
  readonly path: string;
  /** SHA-1 of its leaf; undefined when HAProxy does not tell. */
  readonly fingerprint1: string | undefined;
  /** Seen before, unchanged, and long enough ago: nobody is going to commit it. */
  readonly abandoned: boolean;
}

/** Remembers the pending certificate transaction of one HAProxy process, to tell an abandoned one. */
export class TransactionWatch {
  readonly #clock: Clock;
  #seen:
    | { readonly path: string; readonly fingerprint1: string | undefined; readonly sinceMs: number }
    | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `pending` is the path that HAProxy listed as pending, if any. */
  async look(
    runtime: RuntimeApi,
    pending: string | undefined,
    { signal }: { signal: AbortSignal },
  ): Promise<Sighting | undefined> {
    if (pending === undefined) {
      this.#seen = undefined;
      return undefined;
    }
    const fingerprint1 = await fingerprintOf(runtime, pending, { signal });
    const nowMs = this.#clock.monotonicMs();
    if (this.#seen?.path !== pending || this.#seen.fingerprint1 !== fingerprint1) {
      this.#seen = { path: pending, fingerprint1, sinceMs: nowMs };
    }
    const abandoned = nowMs - this.#seen.sinceMs >= ABANDONED_AFTER_MS;
    return { path: pending, fingerprint1, abandoned };
  }
}

async function fingerprintOf(runtime: RuntimeApi, path: string, { signal }: { signal: AbortSignal }) {
  try {
    return (await runtime.showPending(path, { signal }))?.fingerprint1;
  } catch (error) {
    // Somebody else's path may be one that cannot be named: then the path alone tells it.
    if (error instanceof HostError && error.code === 'ERR_HAPROXY_REFUSED') return undefined;
    throw error;
  }
}
