import type { CertificateSpec } from '../domain/model.ts';
import { chooseIssuer, decideRenewal, type RenewalDecision } from '../domain/renewal.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { AppDeps } from './deps.ts';
import { type BackoffRecord, backoffRecord, loadRecord, orderRecord } from './records.ts';
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
  readonly #store: StateStore;
  readonly #clock: Clock;

  constructor(renewalInfo: RenewalInformation, { store, clock }: AppDeps) {
    this.#renewalInfo = renewalInfo;
    this.#store = store;
    this.#clock = clock;
  }

  /** Which issuer would be asked, and whether a new bundle is needed now. */
  async plan(spec: CertificateSpec, { signal }: { signal: AbortSignal }): Promise<RenewalPlan> {
    const now = this.#clock.now();
    const { issuer, backoff } = await this.chooseIssuer(spec, { signal });
    const renewable = await this.#renewalInfo.of(spec.name, { signal });
    const order = await loadRecord(this.#store, orderRecord, [spec.name, issuer], { signal });
    const decision = decideRenewal(spec, renewable?.held, backoff, now, order !== undefined);
    return { issuer, decision, nextCheckAt: renewable?.nextCheckAt };
  }

  /** The issuer that an order would go to now, with its back-off. */
  async chooseIssuer(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<ReturnType<typeof chooseIssuer>> {
    const records = await this.backoffs(spec, options);
    const backoffs = new Map(
      [...records].map(([issuer, { failures, notBefore }]) => [
        issuer,
        { failures, notBefore: new Date(notBefore) },
      ]),
    );
    return chooseIssuer(spec.issuers, backoffs, this.#clock.now());
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

  /** The failures since the last success, by issuer. */
  async backoffs(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<ReadonlyMap<string, BackoffRecord>> {
    const found = await Promise.all(
      spec.issuers.map(async (issuer) => {
        const record = await loadRecord(this.#store, backoffRecord, [spec.name, issuer], options);
        return record === undefined ? [] : [[issuer, record.value] as const];
      }),
    );
    return new Map(found.flat());
  }
}
