import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import type { WhileServing } from './preflight.ts';
import { challengeRecord } from './records.ts';

/** For what must be removed although the work is cancelled or failed. */
const CLEANUP_WITHIN_MS = 5_000;

/** Probes among the challenges of the store, where the challenge server finds them, whichever process it is in. */
export function servingFrom(
  { store, clock, log }: Pick<AppDeps, 'store' | 'clock' | 'log'>,
  options: EffectOptions,
): WhileServing {
  const remove = async (keys: readonly string[]): Promise<void> => {
    const { mandate } = options;
    if (mandate.signal.aborted) return;
    try {
      const cleanup = { signal: AbortSignal.timeout(CLEANUP_WITHIN_MS), mandate };
      await store.transact({ conditions: [], puts: [], deletes: keys }, cleanup);
    } catch (error) {
      // What stays is swept at the next start: it must not hide why the check failed.
      log.warn({ err: error }, 'probes of the challenge path cannot be removed');
    }
  };
  return async (probes, work) => {
    const createdAt = clock.now().toISOString();
    const keys = probes.map(({ token }) => challengeRecord.key(token));
    const puts = probes.map(({ token, ...challenge }) => ({
      key: challengeRecord.key(token),
      value: challengeRecord.serialize({ ...challenge, createdAt }),
    }));
    await store.transact({ conditions: [], puts, deletes: [] }, options);
    try {
      await work();
    } finally {
      await remove(keys);
    }
  };
}
