import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import { type KacmeError, reportError } from '../domain/errors.ts';
import type { CheckReport } from '../domain/finding.ts';
import { Lane } from '../domain/lane.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';
import { RateLimitNearError } from '../domain/rate-limit-error.ts';
import { describeWait } from '../domain/renewal.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { RevokeRequest, SuccessorPlace } from '../domain/revocation.ts';
import type {
  AdoptionSummary,
  CertificateResult,
  PlaceResult,
  ReloadSummary,
  Status,
  Summary,
} from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions, Mandate } from '../ports/leadership.ts';
import type { AdoptionRequest, CommandOptions, KacmeService } from '../ports/service.ts';
import { AccountLocks } from './account-locks.ts';
import { Accounts } from './accounts.ts';
import { Adoption } from './adoption.ts';
import { Authorities } from './authorities.ts';
import { Backoffs } from './backoffs.ts';
import { Bundles } from './bundles.ts';
import { CanaryGate } from './canary.ts';
import { CertificateStatuses } from './certificate-status.ts';
import { type CheckSurroundings, checkEverything } from './checkup.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { Fleet } from './fleet.ts';
import type { Target } from './host-journal.ts';
import { CertificateIssuer } from './issue.ts';
import { assertHostNamed, assertPoolNamed, certificatesNamed } from './names.ts';
import { Outlook } from './outlook.ts';
import { Preflight } from './preflight.ts';
import { Rehearsals } from './rehearsals.ts';
import { reloadHosts } from './reload.ts';
import { RenewalInformation } from './renewal-info.ts';
import { type RenewalPlan, RenewalPlanner } from './renewal-planner.ts';
import { Revocations } from './revocation.ts';
import { revokeCertificates } from './revoke-command.ts';
import { rollBack, whoseBundle } from './rollback.ts';
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
  readonly accounts: AccountLocks;
}

export const newCoordination = (deps: AppDeps): Coordination => ({
  preparing: new SingleFlight(),
  issuing: new SingleFlight(),
  canaries: new CanaryGate(deps),
  accounts: new AccountLocks(),
});

export interface LocalServiceOptions {
  readonly mandate: Mandate | undefined;
  readonly coordination?: Coordination;
  readonly onActivated?: (certificate: string) => void;
}

/**
 * What kacme does, for one configuration: the operator's commands, and the single steps that `serve` repeats.
 * Without a mandate it only reads.
 */
export class LocalService implements Omit<KacmeService, 'reloadConfig' | 'check'> {
  readonly fleet: Fleet;
  readonly #config: KacmeConfig;
  readonly #deps: AppDeps;
  readonly #mandate: Mandate | undefined;
  readonly #bundles: Bundles;
  readonly #authorities: Authorities;
  readonly #accounts: Accounts;
  readonly #revocations: Revocations;
  readonly #issuer: CertificateIssuer;
  readonly #planner: RenewalPlanner;
  readonly #statuses: CertificateStatuses;
  readonly #outlook: Outlook;
  readonly #adoption: Adoption;
  readonly #coordination: Coordination;
  readonly #orders = new Lane(ORDERS_IN_FLIGHT);
  /** The halves of a dual certificate, one after the other: the second one finds the names authorized. */
  readonly #dualOrders = new Map<string, Lane>();
  readonly #onActivated: (certificate: string) => void;

  constructor(config: KacmeConfig, deps: AppDeps, options: LocalServiceOptions) {
    this.#config = config;
    this.#deps = deps;
    this.#mandate = options.mandate;
    this.#coordination = options.coordination ?? newCoordination(deps);
    this.#onActivated = options.onActivated ?? (() => {});
    this.#bundles = new Bundles(config.keepBundles, deps);
    this.#authorities = new Authorities(config.issuers, deps, this.#coordination.accounts);
    this.#accounts = new Accounts(config, this.#authorities, deps);
    this.#revocations = new Revocations(this.#authorities, this.#bundles, deps);
    const backoffs = new Backoffs(config.issuers, this.#bundles, deps);
    const rehearsals = new Rehearsals(config.issuers, this.#bundles, deps);
    this.#issuer = new CertificateIssuer(
      {
        authorities: this.#authorities,
        bundles: this.#bundles,
        backoffs,
        preflight: new Preflight(deps),
        rehearsals,
      },
      deps,
    );
    const renewalInfo = new RenewalInformation(this.#authorities, this.#bundles, deps);
    this.#planner = new RenewalPlanner({ renewalInfo, backoffs, rehearsals }, deps);
    this.#statuses = new CertificateStatuses({
      bundles: this.#bundles,
      renewalInfo,
      planner: this.#planner,
      backoffs,
      clock: deps.clock,
    });
    this.#outlook = new Outlook(
      config,
      {
        authorities: this.#authorities,
        bundles: this.#bundles,
        planner: this.#planner,
        ordersInFlight: ORDERS_IN_FLIGHT,
      },
      deps,
    );
    this.fleet = new Fleet(config, this.#bundles, this.#coordination.canaries, deps);
    this.#adoption = new Adoption(
      config,
      { bundles: this.#bundles, accounts: this.#accounts, fleet: this.fleet },
      deps,
    );
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
    const certificates = await waitForAll(specs.map((spec) => this.#statuses.of(spec, { signal })));
    return {
      at: this.#deps.clock.now().toISOString(),
      role: this.#mandate === undefined ? 'offline' : 'leading',
      certificates,
      hosts: this.fleet.statuses(new Map(certificates.map(({ name, generation }) => [name, generation]))),
    };
  }

  /** With a preflight of its own: an answer of half a minute ago is no finding. */
  check(surroundings: CheckSurroundings, options: CommandOptions): Promise<CheckReport> {
    const checked = {
      config: this.#config,
      authorities: this.#authorities,
      bundles: this.#bundles,
      preflight: new Preflight(this.#deps),
      targets: this.fleet.targets(),
    };
    return checkEverything(checked, this.#deps, surroundings, options);
  }

  calendar(request: { days: number }, options: { signal: AbortSignal }): Promise<RenewalCalendar> {
    return this.#outlook.calendar(request, options);
  }

  accounts(
    { issuers }: { issuers: readonly string[] },
    options: { signal: AbortSignal },
  ): Promise<readonly AccountView[]> {
    return this.#accounts.show(issuers, options);
  }

  async changeAccount(
    request: AccountRequest,
    { signal, onProgress }: CommandOptions,
  ): Promise<AccountChange> {
    onProgress({ message: `${request.issuer}: account ${request.action}` });
    const changed = await this.#accounts.change(request, this.#effects(signal));
    // What failed for want of an account is decided again.
    for (const { name, issuers } of Object.values(this.#config.certificates))
      if (issuers.includes(request.issuer)) this.#onActivated(name);
    return changed;
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
      const plans = await waitForAll(specs.map((spec) => this.#dryRun(spec, force, { signal })));
      return summarize(plans, []);
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

  /** Reads only. */
  async #dryRun(
    spec: CertificateSpec,
    force: boolean,
    options: { signal: AbortSignal },
  ): Promise<CertificateResult> {
    const { issuer, decision } = await (force
      ? this.#planner.force(spec, options)
      : this.#planner.plan(spec, options));
    const kept = { certificate: spec.name, action: 'kept', failure: undefined } as const;
    if (decision.action === 'wait') return { ...kept, reason: describeWait(decision) };
    try {
      await this.#issuer.assertTakes(spec, issuer, options);
    } catch (error) {
      if (!(error instanceof RateLimitNearError)) throw error;
      const until = error.notBefore.toISOString();
      return { ...kept, reason: `would wait until ${until}: ${decision.reason}; ${error.reason}` };
    }
    return { ...kept, action: 'planned', reason: decision.reason };
  }

  async #renewOne(
    spec: CertificateSpec,
    force: boolean,
    { onProgress, ...options }: EffectOptions & Pick<CommandOptions, 'onProgress'>,
  ): Promise<CertificateResult> {
    const certificate = spec.name;
    try {
      const { issuer, decision } = await (force
        ? this.#planner.force(spec, options)
        : this.#planner.decide(spec, options));
      const { reason } = decision;
      if (decision.action === 'wait')
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

  async reload(
    { pool, host }: { pool: string | undefined; host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<ReloadSummary> {
    if (pool !== undefined) assertPoolNamed(this.#config, pool);
    if (host !== undefined) assertHostNamed(this.#config, host);
    const targets = this.fleet
      .targets({ host })
      .filter((target) => (pool ?? target.pool.name) === target.pool.name);
    return reloadHosts(this.#config, targets, this.#deps, { ...this.#effects(signal), onProgress });
  }

  async rollback(
    { name, to }: { name: string; to: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    const options = this.#effects(signal);
    const sinceMs = this.#deps.clock.monotonicMs();
    const named = certificatesNamed(this.#config, [name]);
    const specs = await whoseBundle(named, to, this.#bundles, options);
    const certificates = await waitForAll(specs.map((spec) => this.#rollBackOne(spec, to, options)));
    for (const { certificate, action, reason } of certificates)
      onProgress({ message: `${certificate}: ${action} (${reason})` });
    const moved = certificates
      .filter(({ action }) => action === 'rolled back')
      .map(({ certificate }) => certificate);
    const targets = this.fleet.targets({ certificates: moved });
    const places = await this.#distribute(targets, { ...options, sinceMs }, onProgress);
    return summarize(
      certificates,
      places.filter(({ certificate }) => moved.includes(certificate)),
    );
  }

  async #rollBackOne(
    spec: CertificateSpec,
    to: string | undefined,
    options: EffectOptions,
  ): Promise<CertificateResult> {
    try {
      const reason = await rollBack(spec, to, { bundles: this.#bundles, clock: this.#deps.clock }, options);
      this.#onActivated(spec.name);
      return { certificate: spec.name, action: 'rolled back', reason, failure: undefined };
    } catch (error) {
      return failedResult(spec, expectedFailure(error, options));
    }
  }

  async adopt(
    { origin, names, dryRun }: AdoptionRequest,
    { signal, onProgress }: CommandOptions,
  ): Promise<AdoptionSummary> {
    const effects = dryRun ? undefined : this.#effects(signal);
    const sinceMs = this.#deps.clock.monotonicMs();
    const specs = certificatesNamed(this.#config, names);
    const found = await this.#adoption.find(origin, specs, { signal });
    const { problems } = found;
    for (const { where, reason } of problems) onProgress({ message: `${where}: not read (${reason})` });
    const accounts = await this.#adoption.adoptAccounts(found.accounts, { signal, effects });
    for (const { issuer, action, reason } of accounts)
      onProgress({ message: `account at ${issuer}: ${action} (${reason})` });
    const certificates = await waitForAll(
      specs.map((spec) => this.#adoption.adopt(spec, found.bundles, { signal, effects })),
    );
    for (const { certificate, action, reason } of certificates) {
      onProgress({ message: `${certificate}: ${action} (${reason})` });
      if (action === 'adopted') this.#onActivated(certificate);
    }
    const adopted = certificates.filter(({ action }) => action === 'adopted').map((each) => each.certificate);
    const places =
      effects === undefined
        ? []
        : await this.#distribute(
            this.fleet.targets({ certificates: adopted }),
            { ...effects, sinceMs },
            onProgress,
          );
    const summary = summarize(
      certificates,
      places.filter(({ certificate }) => adopted.includes(certificate)),
    );
    const whole = problems.length === 0 && accounts.every(({ action }) => action !== 'failed');
    const outcome = summary.outcome === 'done' && !whole ? 'partly' : summary.outcome;
    return { ...summary, outcome, accounts, problems };
  }

  async revoke(request: RevokeRequest, { signal, onProgress }: CommandOptions): Promise<Summary> {
    const options = this.#effects(signal);
    const sinceMs = this.#deps.clock.monotonicMs();
    const steps = {
      issue: async (spec: CertificateSpec, reason: string) => {
        const { issuer } = await this.#planner.force(spec, options);
        await this.issue(spec, issuer, reason, options);
      },
      distribute: async (certificate: string) => {
        const targets = this.fleet.targets({ certificates: [certificate] });
        const places = await this.#distribute(targets, { ...options, sinceMs }, onProgress);
        return places.filter((place) => place.certificate === certificate);
      },
      placesOf: (spec: CertificateSpec) => this.#placesOf(spec, options),
      onChanged: this.#onActivated,
    };
    const specs = certificatesNamed(this.#config, [request.certificate]);
    return revokeCertificates(specs, request, this.#revocations, steps, { ...options, onProgress });
  }

  /** Revokes what is replaced everywhere by now. Resolves to whether something is left to be revoked. */
  async concludeRevocations(options: EffectOptions): Promise<boolean> {
    const now = this.#deps.clock.now().toISOString();
    const left = await waitForAll(
      Object.values(this.#config.certificates).map(async (spec) => {
        const pending = await this.#revocations.pending(spec.name, options);
        const results = await waitForAll(
          pending.map(async (revoking) => {
            if (revoking.active || (revoking.revocation.notBefore ?? '') > now) return 'pending';
            const places = await this.#placesOf(spec, options);
            try {
              return (await this.#revocations.conclude(revoking, places, options)).action;
            } catch (error) {
              expectedFailure(error, options);
              return 'pending';
            }
          }),
        );
        return results.includes('pending');
      }),
    );
    return left.includes(true);
  }

  async #placesOf(
    { name }: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<readonly SuccessorPlace[]> {
    const generation = (await this.#bundles.record(name, options))?.value.generation ?? 0;
    return this.fleet
      .statuses(new Map([[name, generation]]))
      .flatMap(({ host, reachable, places }) =>
        places
          .filter(({ certificate }) => certificate === name)
          .map(({ state }) => ({ host, reachable: reachable !== false, state })),
      );
  }

  async distribute(
    { host }: { host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    if (host !== undefined) assertHostNamed(this.#config, host);
    const targets = this.fleet.targets({ host });
    return summarize([], await this.#distribute(targets, this.#effects(signal), onProgress));
  }

  /** Like `RenewalPlanner.decide`. */
  decide(spec: CertificateSpec, options: EffectOptions): Promise<RenewalPlan> {
    return this.#planner.decide(spec, options);
  }

  /** Who asks while the same certificate is being issued gets that issuance's result. */
  async issue(spec: CertificateSpec, issuer: string, reason: string, options: EffectOptions): Promise<void> {
    const { mandate } = options;
    await this.#coordination.issuing.run(
      spec.name,
      async (own) => {
        const signal = AbortSignal.any([own.signal, mandate.signal]);
        const order = () =>
          this.#orders.run(() => this.#issuer.issue(spec, issuer, reason, { signal, mandate }), { signal });
        await (spec.dualOf === undefined ? order() : this.#dualLane(spec.dualOf).run(order, { signal }));
      },
      options,
    );
    this.#onActivated(spec.name);
  }

  #dualLane(dual: string): Lane {
    const lane = this.#dualOrders.get(dual) ?? new Lane(1);
    this.#dualOrders.set(dual, lane);
    return lane;
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

  #effects(signal: AbortSignal): EffectOptions {
    if (this.#mandate === undefined) throw new RangeError('this command needs a mandate');
    return { signal: AbortSignal.any([signal, this.#mandate.signal]), mandate: this.#mandate };
  }
}

function failedResult({ name }: CertificateSpec, error: KacmeError): CertificateResult {
  const failure = reportError(error);
  return { certificate: name, action: 'failed', reason: failure.message, failure };
}

function summarize(certificates: readonly CertificateResult[], places: readonly PlaceResult[]): Summary {
  const failed =
    certificates.some(({ action }) => action === 'failed') ||
    (places.length > 0 && places.every(({ inSync }) => !inSync));
  const partly = places.some(({ inSync }) => !inSync);
  return { outcome: failed ? 'failed' : partly ? 'partly' : 'done', certificates, places };
}
