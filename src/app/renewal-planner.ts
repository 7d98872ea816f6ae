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
import type { RenewalInformation } from './renewal-info.ts';

export interface RenewalPlan {
  readonly issuer: string;
  readonly decision: RenewalDecision;
  /** When the CA is to be asked when to renew; undefined when it is not. */
  readonly nextCheckAt: Date | undefined;
}

/** Gathers from the store what the decision about a certificate's renewal rests on. */
export class RenewalPlanner {
  readonly #renewalInfo: RenewalInformation;
  readonly #backoffs: Backoffs;
  readonly #store: StateStore;
  readonly #clock: Clock;

  constructor(renewalInfo: RenewalInformation, backoffs: Backoffs, { store, clock }: AppDeps) {
    this.#renewalInfo = renewalInfo;
    this.#backoffs = backoffs;
    this.#store = store;
    this.#clock = clock;
  }

  /** Which issuer would be asked, and whether a new bundle is needed now. */
  async plan(spec: CertificateSpec, { signal }: { signal: AbortSignal }): Promise<RenewalPlan> {
    const now = this.#clock.now();
    const { issuer, backoff } = await this.chooseIssuer(spec, { signal });
    const renewable = await this.#renewalInfo.of(spec.name, { signal });
    const order = await loadRecord(this.#store, orderRecord, [spec.name, issuer], { signal });
    const held = renewable && { ...renewable.held, family: familyHeld(spec, renewable.bundle) };
    const decision = decideRenewal(spec, held, backoff, now, order !== undefined);
    return { issuer, decision, nextCheckAt: renewable?.nextCheckAt };
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
    const overridden = backoffs.get(issuer);
    const overrides = overridden !== undefined && now < overridden.notBefore;
    const reason = overrides
      ? `forced by the operator, overriding the back-off of ${issuer} until ${overridden.notBefore.toISOString()}`
      : 'forced by the operator';
    return { issuer, decision: { action: 'issue', reason }, nextCheckAt: undefined };
  }

  /** The issuer that an order would go to now, with its back-off. */
  async chooseIssuer(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<IssuerChoice> {
    return chooseIssuer(spec.issuers, await this.#states(spec, options), this.#clock.now());
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
    const records = await this.#backoffs.of(spec, spec.issuers, options);
    return new Map([...records].map(([issuer, record]) => [issuer, backoffState(record)]));
  }
}

/** Only halves of dual certificates are particular about it, so that no other one is parsed for it. */
export function familyHeld(
  { dualOf }: CertificateSpec,
  { chainPem }: Pick<BundleRecord, 'chainPem'>,
): KeyFamily | undefined {
  return dualOf === undefined ? undefined : keyFamilyOfLeaf(chainPem);
}
