import { backoffUntil } from './backoff.ts';
import type { ErrorCode, ErrorReport } from './errors.ts';
import type { Means } from './place-decision.ts';

/** The last changes of one place of a host that failed, as stored; cleared by one that succeeds. */
export interface FailedChanges {
  /** In a row, at least 1. */
  readonly failures: number;
  /** Not tried again before. */
  readonly until: Date;
  /** Of the last one. */
  readonly failure: ErrorReport;
  readonly means: Means;
  /** The generation that it would have brought. */
  readonly generation: number;
}

/**
 * How much may be wrong with HAProxy after a failed change. `doubt`: it did not take the bundle, or does not present
 * it, and each attempt shows clients a bundle that is taken back. `disturbance`: something went wrong with it, perhaps for
 * a moment. What concerns the way to the host or its files disturbs nobody, and nothing would tell when it is repaired.
 */
const GRAVITY: Readonly<Partial<Record<ErrorCode, 'doubt' | 'disturbance'>>> = {
  ERR_HAPROXY_REFUSED: 'doubt',
  ERR_HOST_UNVERIFIED: 'doubt',
  ERR_HAPROXY_SOCKET: 'disturbance',
  ERR_INTERNAL: 'disturbance',
};

/** A change that ends so has not come to its reload. */
const BEFORE_RELOAD: ReadonlySet<ErrorCode> = new Set([
  'ERR_HOST_DISK_FULL',
  'ERR_HOST_NOT_WRITABLE',
  'ERR_HOST_CHANGED',
]);

/**
 * Undefined when the next look may try again. Otherwise 1 min, 10 min, 100 min, then daily; after a disturbance the first
 * attempt is free, and no wait is longer than ten minutes. A reload that fails costs a worker process and idle
 * connections each time, whatever it fails for, unless nothing was reloaded yet.
 */
export function afterFailedChange(
  before: FailedChanges | undefined,
  change: Pick<FailedChanges, 'failure' | 'means' | 'generation'>,
  now: Date,
  uniform: number,
): FailedChanges | undefined {
  const { code } = change.failure;
  const mayHaveReloaded = change.means === 'reload' && !BEFORE_RELOAD.has(code);
  const gravity = mayHaveReloaded ? 'doubt' : GRAVITY[code];
  if (gravity === undefined) return undefined;
  const failures = (before !== undefined && concerns(before, change.generation) ? before.failures : 0) + 1;
  const local = gravity === 'disturbance';
  const waits = local ? failures - 1 : failures;
  const until = waits === 0 ? now : backoffUntil(waits, now, uniform, { local });
  return { ...change, failures, until };
}

/** Another bundle may do better; a reload reads the whole configuration of HAProxy, whatever the bundle. */
export function concerns({ means, generation }: FailedChanges, present: number): boolean {
  return means === 'reload' || generation === present;
}

/** For a reason. */
export const describePause = ({ until, failure }: FailedChanges): string =>
  `the last change failed, the next attempt is at ${until.toISOString()}: ${failure.message}`;
