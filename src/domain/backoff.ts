import type { FailureVerdict } from './failure.ts';

const DAY_MS = 86_400_000;

/** The last failed attempts of a certificate at an issuer, as stored; cleared by a success. */
export interface BackoffState {
  /** In a row, at least 1. */
  readonly failures: number;
  readonly notBefore: Date;
  /** Of the last one. */
  readonly verdict: FailureVerdict;
  /** What an operator can do about the last one. */
  readonly remedy?: string | undefined;
  /** Whether no CA was asked for the last one (`isLocal`). */
  readonly local?: boolean;
}

export interface BackoffLimits {
  /** The CA's own word: never before this. */
  readonly notBefore?: Date | undefined;
  /** When the certificate in use expires. */
  readonly heldUntil?: Date | undefined;
  /** The same request would be refused again: only the long steps are taken. */
  readonly permanent?: boolean;
  /** No CA was asked (`isLocal`): no step is longer than ten minutes, so that a repair is soon seen. */
  readonly local?: boolean;
}

const STEPS_MS = [60_000, 600_000, 6_000_000, DAY_MS] as const;
/** Of a failure that costs nobody anything. */
const LONGEST_LOCAL_MS = 600_000;
/** A permanent failure begins where passing ones are after this many. */
const LONG_STEPS_AFTER = 2;

/** With an eighth of what is left of the certificate in use, some fifty attempts fit before it expires; */
const SHARE_OF_TIME_LEFT = 1 / 8;
/** not closer together than this, since CAs limit failures by the hour. */
const SHORTEST_CAPPED_MS = 600_000;

/**
 * When to try again after `failures` failed attempts in a row (at least 1): 1 min, 10 min, 100 min, then daily, and
 * 100 min, then daily, after a permanent failure; but within an eighth of the time left of the certificate in use, and
 * within 10 min when no CA was asked; up to a tenth later so that a fleet does not return in step.
 */
export function backoffUntil(
  failures: number,
  now: Date,
  uniform: number,
  { notBefore, heldUntil, permanent = false, local = false }: BackoffLimits = {},
): Date {
  const step = failures + (permanent ? LONG_STEPS_AFTER : 0);
  const baseMs = STEPS_MS[Math.min(step, STEPS_MS.length) - 1] ?? DAY_MS;
  const longestMs = local ? LONGEST_LOCAL_MS : longestWaitMs(now, heldUntil, permanent);
  const ours = now.getTime() + Math.round(Math.min(baseMs, longestMs) * (1 + uniform / 10));
  return new Date(Math.max(ours, notBefore?.getTime() ?? 0));
}

/** What has expired is no reason to hurry: it was the reason to hurry before. */
function longestWaitMs(now: Date, heldUntil: Date | undefined, permanent: boolean): number {
  const leftMs = heldUntil === undefined ? 0 : heldUntil.getTime() - now.getTime();
  const shortestMs = permanent ? STEPS_MS[LONG_STEPS_AFTER] : SHORTEST_CAPPED_MS;
  return leftMs > 0 ? Math.max(leftMs * SHARE_OF_TIME_LEFT, shortestMs) : Number.POSITIVE_INFINITY;
}

/** Why an attempt for `certificate` is put off, and what would end that; for a reason. */
export function describeBackoff(
  { failures, verdict, remedy, local = false }: BackoffState,
  certificate: string,
): string {
  const attempts = failures === 1 ? 'a failed attempt' : `${failures} failed attempts`;
  if (!verdict.permanent) return `backing off after ${attempts}`;
  const act = remedy ?? 'see what the CA says';
  const then = local ? 'kacme looks again by itself, or' : 'then';
  return `an operator must act after ${attempts}: ${act}; ${then} run kacme renew ${certificate} --force`;
}
