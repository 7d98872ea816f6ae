import { type KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import type { AdoptionSummary, CertificateResult, PlaceResult, Summary } from '../domain/status.ts';

/** The result of a certificate whose part of a command failed. */
export function failedResult({ name }: CertificateSpec, error: KacmeError): CertificateResult {
  const failure = reportError(error);
  return { certificate: name, action: 'failed', reason: failure.message, failure };
}

/** `failed` when a certificate failed or no place is in sync, `partly` when some are not or hosts may be missing. */
export function summarize(
  certificates: readonly CertificateResult[],
  places: readonly PlaceResult[],
  unlearned: NonNullable<Summary['unlearned']> = [],
): Summary {
  const failed =
    certificates.some(({ action }) => action === 'failed') ||
    (places.length > 0 && places.every(({ inSync }) => !inSync));
  const partly = places.some(({ inSync }) => !inSync) || unlearned.length > 0;
  const outcome = failed ? 'failed' : partly ? 'partly' : 'done';
  return { outcome, certificates, places, ...(unlearned.length > 0 ? { unlearned } : {}) };
}

/** What was not read, or an account that was refused, makes it `partly`; with `complete` the latter is `failed`. */
export function outcomeOfAdoption(
  { outcome, accounts, problems }: AdoptionSummary,
  { complete }: { complete: boolean },
): Summary['outcome'] {
  const had = new Set(accounts.filter(({ action }) => action !== 'failed').map(({ issuer }) => issuer));
  const refused = accounts.filter(({ action, issuer }) => action === 'failed' && !had.has(issuer));
  if (complete && refused.length > 0) return 'failed';
  const whole = problems.length === 0 && accounts.every(({ action }) => action !== 'failed');
  return outcome === 'done' && !whole ? 'partly' : outcome;
}
