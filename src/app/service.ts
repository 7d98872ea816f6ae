import type { PlannedCertificate } from '../domain/calendar-model.ts';
import { type ErrorReport, type KacmeError, reportError } from '../domain/errors.ts';
import { Lane } from '../domain/lane.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';
import { chooseIssuer, decideRenewal, type RenewalDecision } from '../domain/renewal.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { CertificateResult, CertificateStatus, PlaceResult, Status, Summary } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions, Mandate } from '../ports/leadership.ts';
import type { CommandOptions, KacmeService } from '../ports/service.ts';
import { Authorities } from './authorities.ts';
import { Bundles } from './bundles.ts';
import { calendarOf } from './calendar.ts';
import { CanaryGate } from './canary.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { Fleet } from './fleet.ts';
import type { Target } from './host-journal.ts';
import { CertificateIssuer } from './issue.ts';
import { assertHostNamed, certificatesNamed } from './names.ts';
import { type BackoffRecord, backoffRecord, loadRecord, orderRecord } from './records.ts';
import { RenewalInformation } from './renewal-info.ts';
import { SingleFlight } from './single-flight.ts';

/** Bounds what one kacme asks of a CA at a time. */
const ORDERS_IN_FLIGHT = 8;

/**
 * Shared by the services of one process, since after a reload commands of the former configuration may go on:
 * they must not prepare, issue or lead a rollout of the same certificate at the same time.
 */
export interface Coordination {
  readonly preparing: SingleFlight<CertificateResult>;
  readonly issuing: SingleFlight<void>;
  readonly canaries: CanaryGate;
}

export const newCoordination = (deps: AppDeps): Coordination => ({
  preparing: new SingleFlight(),
  issuing: new SingleFlight(),
  canaries: new CanaryGate(deps),
});

export interface LocalServiceOptions {
  readonly mandate: Mandate | undefined;
  readonly coordination?: Coordination;
  readonly onActivated?: (certificate: string) => void;
}

export interface RenewalPlan {
  readonly issuer: string;
  readonly decision: RenewalDecision;
  /** When the CA is to be asked when to renew; undefined when it is not. */
  readonly nextCheckAt: Date | undefined;
}

/**
 * What kacme does, for one configuration: the operator's commands, and the single steps that `serve` repeats.
 * Without a mandate it only reads.
 */
export class LocalService implements Omit<KacmeService, 'reloadConfig'> {
  readonly fleet: Fleet;
  readonly #config: KacmeConfig;
  readonly #deps: AppDeps;
  readonly #mandate: Mandate | undefined;
  readonly #bundles: Bundles;
  readonly #authorities: Authorities;
  readonly #issuer: CertificateIssuer;
  readonly #renewalInfo: RenewalInformation;
  readonly #coordination: Coordination;
  readonly #orders = new Lane(ORDERS_IN_FLIGHT);
  readonly #onActivated: (certificate: string) => void;

  constructor(config: KacmeConfig, deps: AppDeps, options: LocalServiceOptions) {
    this.#config = config;
    this.#deps = deps;
    this.#mandate = options.mandate;
    this.#coordination = options.coordination ?? newCoordination(deps);
    this.#onActivated = options.onActivated ?? (() => {});
    this.#bundles = new Bundles(config.keepBundles, deps);
    this.#authorities = new Authorities(config.issuers, deps);
    this.#issuer = new CertificateIssuer(this.#authorities, this.#bundles, deps);
    this.#renewalInfo = new RenewalInformation(this.#authorities, this.#bundles, deps);
    this.fleet = new Fleet(config, this.#bundles, this.#coordination.canaries, deps);
  }

  async status({ signal }: { signal: AbortSignal }): Promise<Status> {
    if (this.#mandate === undefined) {
      await waitForAll(this.fleet.targets().map((target) => this.fleet.inspect(target, { signal })));
    }
    return this.remembered({ signal });
  }

  /** What the store and earlier observations tell, without a look at any host. */
  async remembered({ signal }: { signal: AbortSignal }): Promise<Status> {
    const specs = Object.values(this.#config.certificates);
    const certificates = await waitForAll(specs.map((spec) => this.#certificateStatus(spec, { signal })));
    return {
      at: this.#deps.clock.now().toISOString(),
      role: this.#mandate === undefined ? 'offline' : 'leading',
      certificates,
      hosts: this.fleet.statuses(new Map(certificates.map(({ name, generation }) => [name, generation]))),
    };
  }

  async calendar({ days }: { days: number }, { signal }: { signal: AbortSignal }): Promise<RenewalCalendar> {
    const now = this.#deps.clock.now();
    const specs = Object.values(this.#config.certificates);
    const outlooks = await waitForAll(specs.map((spec) => this.#outlook(spec, { signal })));
    const issuers = Object.values(this.#config.issuers).flatMap((issuer) => {
      const certificates = outlooks.flatMap((outlook) =>
        'planned' in outlook && outlook.issuer === issuer.name ? [outlook.planned] : [],
      );
      return certificates.length === 0 ? [] : [{ issuer, certificates }];
    });
    return {
      at: now.toISOString(),
      days,
      issuers: await waitForAll(
        issuers.map(async ({ issuer, certificates }) =>
          calendarOf({
            issuer,
            certificates,
            ledger: await (await this.#authorities.book(issuer.name)).ledger({ signal }),
            from: now,
            days,
            ordersInFlight: ORDERS_IN_FLIGHT,
            registeredDomain: await this.#deps.loadRegisteredDomain(),
          }),
        ),
      ),
      unreadable: outlooks.flatMap((outlook) => ('failure' in outlook ? [outlook] : [])),
    };
  }

  /** Where a plan begins with a certificate: the issuer that would be asked, and what is held. */
  async #outlook(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<
    | { readonly issuer: string; readonly planned: PlannedCertificate }
    | { readonly certificate: string; readonly failure: ErrorReport }
  > {
    try {
      const { issuer, backoff } = await this.#chooseIssuer(spec, options);
      const bundle = await this.#bundles.active(spec.name, options);
      const held = bundle && {
        identifiers: bundle.identifiers,
        origin: bundle.origin,
        notBefore: new Date(bundle.notBefore),
        notAfter: new Date(bundle.notAfter),
        renewAt: new Date(bundle.renewAt),
      };
      return { issuer, planned: { spec, held, backoff, renewalInfo: undefined } };
    } catch (error) {
      return { certificate: spec.name, failure: reportError(expectedFailure(error, options)) };
    }
  }

  async bootstrap({ signal, onProgress }: CommandOptions): Promise<Summary> {
    const options = { ...this.#effects(signal), sinceMs: this.#deps.clock.monotonicMs() };
    const certificates = await this.prepare(options);
    for (const { certificate, action, reason } of certificates)
      onProgress({ message: `${certificate}: ${action} (${reason})` });
    const places = await this.#distribute(this.fleet.targets(), options, onProgress);
    return summarize(certificates, places);
  }

  /**
   * Account keys and self-signed bundles, where there are none: what everything else needs first. What fails, such
   * as a damaged record, is in the results and keeps nothing else from being prepared.
   */
  async prepare(options: EffectOptions): Promise<readonly CertificateResult[]> {
    const { mandate } = options;
    const prepareOne = (spec: CertificateSpec) =>
      this.#coordination.preparing.run(
        spec.name,
        ({ signal }) => this.#prepareOne(spec, { signal, mandate }),
        options,
      );
    return waitForAll(Object.values(this.#config.certificates).map(prepareOne));
  }

  async #prepareOne(spec: CertificateSpec, options: EffectOptions): Promise<CertificateResult> {
    try {
      const { created, reason } = await this.#bundles.ensureSelfSigned(spec, options);
      if (created) this.#onActivated(spec.name);
      await waitForAll(spec.issuers.map((issuer) => this.#authorities.ensureAccountKey(issuer, options)));
      return { certificate: spec.name, action: created ? 'created' : 'kept', reason, failure: undefined };
    } catch (error) {
      return failedResult(spec, expectedFailure(error, options));
    }
  }

  async renew(
    { names, force, dryRun }: { names: readonly string[]; force: boolean; dryRun: boolean },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    const specs = certificatesNamed(this.#config, names);
    if (dryRun) {
      const plans = await Promise.all(
        specs.map(async (spec) => ({ spec, ...(await this.plan(spec, { signal })) })),
      );
      return summarize(
        plans.map(({ spec, decision }) => describePlan(spec, decision, force)),
        [],
      );
    }
    const options = this.#effects(signal);
    const sinceMs = this.#deps.clock.monotonicMs();
    const certificates = await waitForAll(
      specs.map((spec) => this.#renewOne(spec, force, { ...options, onProgress })),
    );
    const issued = certificates
      .filter(({ action }) => action === 'issued')
      .map(({ certificate }) => certificate);
    const targets = this.fleet.targets({ certificates: issued });
    const places = await this.#distribute(targets, { ...options, sinceMs }, onProgress);
    return summarize(
      certificates,
      places.filter(({ certificate }) => issued.includes(certificate)),
    );
  }

  async #renewOne(
    spec: CertificateSpec,
    force: boolean,
    { onProgress, ...options }: EffectOptions & Pick<CommandOptions, 'onProgress'>,
  ): Promise<CertificateResult> {
    const certificate = spec.name;
    try {
      const { issuer, decision } = await (force ? this.plan(spec, options) : this.decide(spec, options));
      const reason = force ? 'forced by the operator' : decision.reason;
      if (!force && decision.action === 'wait')
        return { certificate, action: 'kept', reason: describeWait(decision), failure: undefined };
      onProgress({ message: `${certificate}: ordering from ${issuer} (${reason})` });
      await this.issue(spec, issuer, reason, options);
      onProgress({ message: `${certificate}: issued` });
      return { certificate, action: 'issued', reason, failure: undefined };
    } catch (error) {
      const result = failedResult(spec, expectedFailure(error, options));
      onProgress({ message: `${certificate}: failed (${result.reason})` });
      return result;
    }
  }

  async distribute(
    { host }: { host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    if (host !== undefined) assertHostNamed(this.#config, host);
    const targets = this.fleet.targets({ host });
    return summarize([], await this.#distribute(targets, this.#effects(signal), onProgress));
  }

  /** Which issuer would be asked, and whether a new bundle is needed now. */
  async plan(spec: CertificateSpec, { signal }: { signal: AbortSignal }): Promise<RenewalPlan> {
    const now = this.#deps.clock.now();
    const { issuer, backoff } = await this.#chooseIssuer(spec, { signal });
    const renewable = await this.#renewalInfo.of(spec.name, { signal });
    const order = await loadRecord(this.#deps.store, orderRecord, [spec.name, issuer], { signal });
    const decision = decideRenewal(spec, renewable?.held, backoff, now, order !== undefined);
    return { issuer, decision, nextCheckAt: renewable?.nextCheckAt };
  }

  async #chooseIssuer(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<ReturnType<typeof chooseIssuer>> {
    const records = await this.#backoffs(spec, options);
    const backoffs = new Map(
      [...records].map(([issuer, { failures, notBefore }]) => [
        issuer,
        { failures, notBefore: new Date(notBefore) },
      ]),
    );
    return chooseIssuer(spec.issuers, backoffs, this.#deps.clock.now());
  }

  /** Like `plan`, after the CA was asked when to renew, if that is due: what must be issued anyway does not wait for it. */
  async decide(spec: CertificateSpec, options: EffectOptions): Promise<RenewalPlan> {
    const plan = await this.plan(spec, options);
    const { decision, nextCheckAt } = plan;
    if (decision.action === 'issue' || nextCheckAt === undefined || nextCheckAt > this.#deps.clock.now())
      return plan;
    await this.#renewalInfo.check(spec.name, options);
    return this.plan(spec, options);
  }

  /** Who asks while the same certificate is being issued gets that issuance's result. */
  async issue(spec: CertificateSpec, issuer: string, reason: string, options: EffectOptions): Promise<void> {
    const { mandate } = options;
    await this.#coordination.issuing.run(
      spec.name,
      async (own) => {
        const signal = AbortSignal.any([own.signal, mandate.signal]);
        await this.#orders.run(() => this.#issuer.issue(spec, issuer, reason, { signal, mandate }), {
          signal,
        });
      },
      options,
    );
    this.#onActivated(spec.name);
  }

  async #distribute(
    targets: readonly Target[],
    options: EffectOptions & { readonly sinceMs?: number },
    onProgress: CommandOptions['onProgress'],
  ): Promise<readonly PlaceResult[]> {
    await this.fleet.resume(targets, options);
    const results = await waitForAll(
      targets.map(async (target) => {
        const results = await this.fleet.reconcile(target, options);
        for (const { host, certificate, action, reason } of results) {
          onProgress({ message: `${target.pool.name}/${host}: ${certificate} ${action} (${reason})` });
        }
        return results;
      }),
    );
    return results.flat();
  }

  async #certificateStatus(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<CertificateStatus> {
    try {
      return await this.#readableStatus(spec, options);
    } catch (error) {
      return unreadableStatus(spec, expectedFailure(error, options), this.#deps.clock.now());
    }
  }

  async #readableStatus(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<CertificateStatus> {
    const record = await this.#bundles.record(spec.name, options);
    const renewable = await this.#renewalInfo.of(spec.name, options);
    const bundle = renewable?.bundle;
    const { decision } = await this.plan(spec, options);
    // A success, of whichever issuer, ends what was failing before it.
    const since = record?.value.lastSuccess ?? '';
    const failures = [...(await this.#backoffs(spec, options)).values()].filter(({ at }) => at > since);
    const failure = failures.sort((a, b) => b.at.localeCompare(a.at))[0];
    const expired = bundle !== undefined && this.#deps.clock.now() >= new Date(bundle.notAfter);
    const trusted = bundle?.origin === 'self-signed' ? 'self-signed' : 'valid';
    return {
      name: spec.name,
      identifiers: spec.identifiers,
      state: bundle === undefined ? 'missing' : expired ? 'expired' : trusted,
      generation: record?.value.generation ?? 0,
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

  async #backoffs(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<ReadonlyMap<string, BackoffRecord>> {
    const found = await Promise.all(
      spec.issuers.map(async (issuer) => {
        const record = await loadRecord(this.#deps.store, backoffRecord, [spec.name, issuer], options);
        return record === undefined ? [] : [[issuer, record.value] as const];
      }),
    );
    return new Map(found.flat());
  }

  #effects(signal: AbortSignal): EffectOptions {
    if (this.#mandate === undefined) throw new RangeError('this command needs a mandate');
    return { signal: AbortSignal.any([signal, this.#mandate.signal]), mandate: this.#mandate };
  }
}

function unreadableStatus(
  { name, identifiers }: CertificateSpec,
  error: KacmeError,
  now: Date,
): CertificateStatus {
  const at = now.toISOString();
  return {
    name,
    identifiers,
    state: 'unreadable',
    generation: 0,
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

function failedResult({ name }: CertificateSpec, error: KacmeError): CertificateResult {
  const failure = reportError(error);
  return { certificate: name, action: 'failed', reason: failure.message, failure };
}

function describeWait(decision: Extract<RenewalDecision, { action: 'wait' }>): string {
  return `waits until ${decision.until.toISOString()}: ${decision.reason}`;
}

function describePlan(spec: CertificateSpec, decision: RenewalDecision, force: boolean): CertificateResult {
  const issues = force || decision.action === 'issue';
  const reason = force
    ? 'forced by the operator'
    : decision.action === 'wait'
      ? describeWait(decision)
      : decision.reason;
  return { certificate: spec.name, action: issues ? 'planned' : 'kept', reason, failure: undefined };
}

function summarize(certificates: readonly CertificateResult[], places: readonly PlaceResult[]): Summary {
  const failed =
    certificates.some(({ action }) => action === 'failed') ||
    (places.length > 0 && places.every(({ inSync }) => !inSync));
  const partly = places.some(({ inSync }) => !inSync);
  return { outcome: failed ? 'failed' : partly ? 'partly' : 'done', certificates, places };
}
