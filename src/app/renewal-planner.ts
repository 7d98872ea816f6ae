import type { BackoffState } from '../domain/backoff.ts';
import { chooseIssuer, type IssuerChoice } from '../domain/issuer-choice.ts';
import type { CertificateSpec, KeyFamily } from '../domain/model.ts';
import { decideRenewal, type RenewalDecision } from '../domain/renewal.ts';
import { keyFamilyOfLeaf } from '../domain/x509.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { StateStore } from '../ports/state-store.ts';
import { type Backoffs, backoffState } from './backoffs.ts';
import type { AppDeps } from './deps.ts';
import { type BundleRecord, loadRecord, orderRecord } from './records.ts';
import type { Rehearsals } from './rehearsals.ts';
import type { RenewalInformation } from './renewal-info.ts';

export interface RenewalSources {
  readonly renewalInfo: RenewalInformation;
  readonly backoffs: Backoffs;
  readonly rehearsals: Rehearsals;
}

export interface RenewalPlan {
  readonly issuer: string;
  readonly decision: RenewalDecision;
  /** When the CA is to be asked when to renew; undefined when it is not. */
  readonly nextCheckAt: Date | undefined;
}

export interface IssuerOutlook extends IssuerChoice {
  /** Where it would be rehearsed first; undefined when it would not be. */
  readonly staging: string | undefined;
}

/** Gathers from the store what the decision about a certificate's renewal rests on. */
export class RenewalPlanner {
  readonly #renewalInfo: RenewalInformation;
  readonly #backoffs: Backoffs;
  readonly #rehearsals: Rehearsals;
  readonly #store: StateStore;
  readonly #clock: Clock;

  constructor({ renewalInfo, backoffs, rehearsals }: RenewalSources, { store, clock }: AppDeps) {
    this.#renewalInfo = renewalInfo;
    this.#backoffs = backoffs;
    this.#rehearsals = rehearsals;
    this.#store = store;
    this.#clock = clock;
  }

  /** Which issuer would be asked, and whether a new bundle is needed now. */
  async plan(spec: CertificateSpec, { signal }: { signal: AbortSignal }): Promise<RenewalPlan> {
    const now = this.#clock.now();
    const { issuer, staging, backoff } = await this.chooseIssuer(spec, { signal });
    const renewable = await this.#renewalInfo.of(spec.name, { signal });
    const order = await loadRecord(this.#store, orderRecord, [spec.name, staging ?? issuer], { signal });
    const held = renewable && { ...renewable.held, family: familyHeld(spec, renewable.bundle) };
    const decision = decideRenewal(spec, held, backoff, now, order !== undefined);
    const asks = decision.action === 'issue' || decision.until === backoff?.notBefore;
    const told = asks ? tellOf(staging, decision) : decision;
    return { issuer, decision: told, nextCheckAt: renewable?.nextCheckAt };
  }

  /**
   * What an operator asks for who knows of the failures: due or not, and whatever the back-off. An issuer that refused
   * for good is asked again as well, since the operator has acted; one that is down is not.
   */
  async force(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<RenewalPlan> {
    const now = this.#clock.now();
    const backoffs = await this.#states(spec, options);
    const passing = new Map([...backoffs].filter(([, { verdict }]) => !verdict.permanent));
    const { issuer } = chooseIssuer(spec.issuers, passing, now);
    const staging = await this.#rehearsals.stagingFor(spec, issuer, options);
    const overridden = [staging, issuer].flatMap((name) => {
      const backoff = name === undefined ? undefined : backoffs.get(name);
      return backoff === undefined || now >= backoff.notBefore
        ? []
        : [`overriding the back-off of ${name} until ${backoff.notBefore.toISOString()}`];
    });
    const reason = ['forced by the operator', ...overridden].join(', ');
    const decision = tellOf(staging, { action: 'issue', reason } as const);
    return { issuer, decision, nextCheckAt: undefined };
  }

  /**
   * The issuer that a bundle would come from now, with its back-off, or that of its rehearsal where that holds for
   * longer. A rehearsal that fails changes nothing about the choice: other CAs are no place to try out a set-up either.
   */
  async chooseIssuer(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<IssuerOutlook> {
    const backoffs = await this.#states(spec, options);
    const { issuer, backoff } = chooseIssuer(spec.issuers, backoffs, this.#clock.now());
    const staging = await this.#rehearsals.stagingFor(spec, issuer, options);
    const rehearsal = staging === undefined ? undefined : backoffs.get(staging);
    const longer = (rehearsal?.notBefore.getTime() ?? 0) > (backoff?.notBefore.getTime() ?? 0);
    return { issuer, staging, backoff: longer ? rehearsal : backoff };
  }

  /** Like `plan`, after the CA was asked when to renew, if that is due: what must be issued anyway does not wait for it. */
  async decide(spec: CertificateSpec, options: EffectOptions): Promise<RenewalPlan> {
    const plan = await this.plan(spec, options);
    const { decision, nextCheckAt } = plan;
    if (decision.action === 'issue' || nextCheckAt === undefined || nextCheckAt > this.#clock.now())
      return plan;
    await this.#renewalInfo.check(spec.name, options);
    return this.plan(spec, options);
  }

  async #states(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<ReadonlyMap<string, BackoffState>> {
    const records = await this.#backoffs.of(spec, options);
    return new Map([...records].map(([issuer, record]) => [issuer, backoffState(record)]));
  }
}

/** A decision whose reason also says where the certificate is rehearsed, if it is. */
function tellOf<D extends RenewalDecision>(staging: string | undefined, decision: D): D {
  if (staging === undefined) return decision;
  return { ...decision, reason: `${decision.reason}; ${staging} is asked first, as a rehearsal` };
}

/** Only halves of dual certificates are particular about it, so that no other one is parsed for it. */
export function familyHeld(
  { dualOf }: CertificateSpec,
  { chainPem }: Pick<BundleRecord, 'chainPem'>,
): KeyFamily | undefined {
  return dualOf === undefined ? undefined : keyFamilyOfLeaf(chainPem);
}
