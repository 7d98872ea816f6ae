import type { BackoffState } from './backoff.ts';

/** An issuer that failed this often in a row is passed over while it backs off, */
const PATIENCE = 3;
/** and so is one that asks to be left alone for longer than this, as a rate limit may. */
const LONGEST_WAIT_MS = 2 * 3_600_000;

export interface IssuerChoice {
  readonly issuer: string;
  readonly backoff: BackoffState | undefined;
}

/**
 * Which issuer to ask: the first in order of preference that has not let us down. One has while it backs off after
 * failing again and again, for long, or for good; not by failures that every other CA would meet as well.
 * A first or second failure is waited out instead, so that one hiccup does not change the CA. When the back-off is over
 * the preferred one is asked again.
 */
export function chooseIssuer(
  issuers: readonly string[],
  backoffs: ReadonlyMap<string, BackoffState>,
  now: Date,
): IssuerChoice {
  const soonest = [...issuers].sort(
    (a, b) => (backoffs.get(a)?.notBefore.getTime() ?? 0) - (backoffs.get(b)?.notBefore.getTime() ?? 0),
  )[0];
  const issuer = issuers.find((name) => !letsUsDown(backoffs.get(name), now)) ?? soonest;
  if (issuer === undefined) throw new RangeError('a certificate has at least one issuer');
  return { issuer, backoff: backoffs.get(issuer) };
}

function letsUsDown(backoff: BackoffState | undefined, now: Date): boolean {
  if (backoff === undefined || now >= backoff.notBefore) return false;
  const { failures, notBefore, verdict } = backoff;
  if (verdict.fault === 'here') return false;
  const waitMs = notBefore.getTime() - now.getTime();
  return verdict.permanent || failures >= PATIENCE || waitMs > LONGEST_WAIT_MS;
}
