import { type KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { describeWait } from '../domain/renewal.ts';
import type { CertificateStatus, PendingRevocation } from '../domain/status.ts';
import type { Clock } from '../ports/clock.ts';
import type { Versioned } from '../ports/state-store.ts';
import type { Backoffs } from './backoffs.ts';
import type { Bundles } from './bundles.ts';
import { expectedFailure } from './expected-failure.ts';
import type { CertificateRecord, RevocationRecord } from './records.ts';
import type { RenewalInformation } from './renewal-info.ts';
import type { RenewalPlanner } from './renewal-planner.ts';

export interface CertificateStatusSources {
  readonly bundles: Bundles;
  readonly renewalInfo: RenewalInformation;
  readonly planner: RenewalPlanner;
  readonly backoffs: Backoffs;
  readonly clock: Clock;
}

/** How certificates stand, by what the store remembers. */
export class CertificateStatuses {
  readonly #bundles: Bundles;
  readonly #renewalInfo: RenewalInformation;
  readonly #planner: RenewalPlanner;
  readonly #backoffs: Backoffs;
  readonly #clock: Clock;

  constructor({ bundles, renewalInfo, planner, backoffs, clock }: CertificateStatusSources) {
    this.#bundles = bundles;
    this.#renewalInfo = renewalInfo;
    this.#planner = planner;
    this.#backoffs = backoffs;
    this.#clock = clock;
  }

  /** What is damaged in the store is told as such. */
  async of(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<CertificateStatus> {
    try {
      return await this.#readable(spec, options);
    } catch (error) {
      return unreadableStatus(spec, expectedFailure(error, options), this.#clock.now());
    }
  }

  /** Its generation and its bundle belong together: hosts are measured by the one, people compare the other. */
  async #readable(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<CertificateStatus> {
    const record = await this.#bundles.record(spec.name, options);
    const status = await this.#describe(spec, record, options);
    if (status.fingerprint256 === record?.value.active) return status;
    const present = await this.#bundles.record(spec.name, options);
    // A successor was made active in between.
    return present?.revision === record?.revision ? status : this.#readable(spec, options);
  }

  async #describe(
    spec: CertificateSpec,
    record: Versioned<CertificateRecord> | undefined,
    options: { signal: AbortSignal },
  ): Promise<CertificateStatus> {
    const renewable = await this.#renewalInfo.of(spec.name, options);
    const bundle = renewable?.bundle;
    const { decision } = await this.#planner.plan(spec, options);
    // A success, of whichever issuer, ends what was failing before it.
    const since = record?.value.lastSuccess ?? '';
    const backoffs = await this.#backoffs.of(spec, options);
    const failures = [...backoffs.values()].filter(({ at }) => at > since);
    const failure = failures.sort((a, b) => b.at.localeCompare(a.at))[0];
    const revocations = await this.#bundles.revocations(spec.name, options);
    const revoked = bundle !== undefined && revocations.get(bundle.id)?.revokedAt !== undefined;
    const expired = bundle !== undefined && this.#clock.now() >= new Date(bundle.notAfter);
    const trusted = bundle?.origin === 'self-signed' ? 'self-signed' : 'valid';
    return {
      name: spec.name,
      identifiers: spec.identifiers,
      key: spec.key,
      state: bundle === undefined ? 'missing' : expired ? 'expired' : revoked ? 'revoked' : trusted,
      generation: record?.value.generation ?? 0,
      pendingRevocations: [...revocations].flatMap(([fingerprint256, revocation]) =>
        revocation.revokedAt === undefined ? [pendingRevocation(fingerprint256, revocation)] : [],
      ),
      issuer: bundle?.issuer,
      fingerprint256: bundle?.id,
      notAfter: bundle?.notAfter,
      renewAt: renewable?.time.renewAt.toISOString(),
      renewAtBasis: renewable?.time.basis,
      explanationURL: renewable?.explanationURL,
      next: decision.action === 'issue' ? `issues now: ${decision.reason}` : describeWait(decision),
      lastSuccess: record?.value.lastSuccess,
      lastFailure: failure && {
        ...failure.lastFailure,
        at: failure.at,
        failures: failure.failures,
        notBefore: failure.notBefore,
      },
    };
  }
}

function pendingRevocation(
  fingerprint256: string,
  { reason, requestedAt, lastFailure }: RevocationRecord,
): PendingRevocation {
  return { fingerprint256, reason, requestedAt, failure: lastFailure };
}

function unreadableStatus(
  { name, identifiers, key }: CertificateSpec,
  error: KacmeError,
  now: Date,
): CertificateStatus {
  const at = now.toISOString();
  return {
    name,
    identifiers,
    key,
    state: 'unreadable',
    generation: 0,
    pendingRevocations: [],
    issuer: undefined,
    fingerprint256: undefined,
    notAfter: undefined,
    renewAt: undefined,
    renewAtBasis: undefined,
    explanationURL: undefined,
    next: 'nothing until the store is repaired; hosts keep what they hold',
    lastSuccess: undefined,
    lastFailure: { ...reportError(error), at, failures: 1, notBefore: at },
  };
}
