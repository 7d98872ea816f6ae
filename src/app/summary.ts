import { type KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import type { CertificateResult, PlaceResult, Summary } from '../domain/status.ts';

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
