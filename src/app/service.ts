import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import type { CheckReport } from '../domain/finding.ts';
import { Lane } from '../domain/lane.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { RevokeRequest } from '../domain/revocation.ts';
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
import { CanaryGate } from './canary.ts';
import { type CheckSurroundings, checkEverything } from './checkup.ts';
import { concludeRevocations, successorPlaces } from './conclude-revocations.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Fleet } from './fleet.ts';
import type { Target } from './host-journal.ts';
import { assertPoolNamed, certificatesNamed } from './names.ts';
import { assembleParts, ORDERS_IN_FLIGHT, type Parts } from './parts.ts';
import { Preflight } from './preflight.ts';
import { presentTargets, unlearnedPools } from './present-targets.ts';
import { reloadHosts } from './reload.ts';
import { foreseeRenewal, renewOne } from './renew-command.ts';
import type { RenewalPlan } from './renewal-planner.ts';
import { revokeCertificates } from './revoke-command.ts';
import { rollBackOne, whoseBundle } from './rollback.ts';
import type { Roster } from './roster.ts';
import { SingleFlight } from './single-flight.ts';
import { failedResult, outcomeOfAdoption, summarize } from './summary.ts';

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
  /** Hosts have come, gone or moved. */
  readonly onRosterChanged?: () => void;
}

/**
 * What kacme does, for one configuration: the operator's commands, and the single steps that `serve` repeats.
 * Without a mandate it only reads.
 */
export class LocalService implements Omit<KacmeService, 'reloadConfig' | 'check'> {
  readonly fleet: Fleet;
  readonly roster: Roster;
  readonly #parts: Parts;
  readonly #mandate: Mandate | undefined;
  readonly #coordination: Coordination;
  readonly #orders = new Lane(ORDERS_IN_FLIGHT);
  /** The halves of a dual certificate, one after the other: the second one finds the names authorized. */
  readonly #dualOrders = new Map<string, Lane>();
  readonly #onActivated: (certificate: string) => void;

  constructor(config: KacmeConfig, deps: AppDeps, options: LocalServiceOptions) {
    this.#mandate = options.mandate;
    this.#coordination = options.coordination ?? newCoordination(deps);
    this.#onActivated = options.onActivated ?? (() => {});
    this.#parts = assembleParts(config, deps, this.#coordination, options.onRosterChanged ?? (() => {}));
    this.fleet = this.#parts.fleet;
    this.roster = this.#parts.roster;
  }

  async status({ signal }: { signal: AbortSignal }): Promise<Status> {
    if (this.#mandate === undefined) {
      const targets = await this.#targets({}, { signal });
      await waitForAll(targets.map((target) => this.fleet.inspect(target, { signal })));
    }
    return this.remembered({ signal });
  }

  /** What the store and earlier observations tell, without a look at any host. */
  async remembered({ signal }: { signal: AbortSignal }): Promise<Status> {
    await this.roster.restore({ signal });
    const specs = Object.values(this.#parts.config.certificates);
    const certificates = await waitForAll(specs.map((spec) => this.#parts.statuses.of(spec, { signal })));
    return {
      at: this.#parts.deps.clock.now().toISOString(),
      role: this.#mandate === undefined ? 'offline' : 'leading',
      certificates,
      hosts: this.fleet.statuses(new Map(certificates.map(({ name, generation }) => [name, generation]))),
      discoveries: this.roster.statuses(),
    };
  }

  /** With a preflight of its own: an answer of half a minute ago is no finding. */
  async check(surroundings: CheckSurroundings, options: CommandOptions): Promise<CheckReport> {
    const targets = await this.#targets({}, options);
    const checked = {
      config: this.#parts.config,
      authorities: this.#parts.authorities,
      bundles: this.#parts.bundles,
      preflight: new Preflight(this.#parts.deps),
      targets,
      discoveries: this.roster.statuses(),
    };
    return checkEverything(checked, this.#parts.deps, surroundings, options);
  }

  calendar(request: { days: number }, options: { signal: AbortSignal }): Promise<RenewalCalendar> {
    return this.#parts.outlook.calendar(request, options);
  }

  accounts(
    { issuers }: { issuers: readonly string[] },
    options: { signal: AbortSignal },
  ): Promise<readonly AccountView[]> {
    return this.#parts.accounts.show(issuers, options);
  }

  async changeAccount(
    request: AccountRequest,
    { signal, onProgress }: CommandOptions,
  ): Promise<AccountChange> {
    onProgress({ message: `${request.issuer}: account ${request.action}` });
    const changed = await this.#parts.accounts.change(request, this.#effects(signal));
    // What failed for want of an account is decided again.
    for (const { name, issuers } of Object.values(this.#parts.config.certificates))
      if (issuers.includes(request.issuer)) this.#onActivated(name);
    return changed;
  }

  async bootstrap({ signal, onProgress }: CommandOptions): Promise<Summary> {
    const options = { ...this.#effects(signal), sinceMs: this.#parts.deps.clock.monotonicMs() };
    const certificates = await this.prepare(options);
    for (const { certificate, action, reason } of certificates)
      onProgress({ message: `${certificate}: ${action} (${reason})` });
    const places = await this.#distribute(await this.#targets({}, options), options, onProgress);
    return summarize(certificates, places, unlearnedPools(this.#parts));
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
    return waitForAll(Object.values(this.#parts.config.certificates).map(prepareOne));
  }

  async #prepareOne(spec: CertificateSpec, options: EffectOptions): Promise<CertificateResult> {
    try {
      const { created, reason } = await this.#parts.bundles.ensureSelfSigned(spec, options);
      if (created) this.#onActivated(spec.name);
      await waitForAll(
        spec.issuers.map((issuer) => this.#parts.authorities.ensureAccountKey(issuer, options)),
      );
      return { certificate: spec.name, action: created ? 'created' : 'kept', reason, failure: undefined };
    } catch (error) {
      return failedResult(spec, expectedFailure(error, options));
    }
  }

  async renew(
    { names, force, dryRun }: { names: readonly string[]; force: boolean; dryRun: boolean },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    const specs = certificatesNamed(this.#parts.config, names);
    if (dryRun) {
      const plans = specs.map((spec) => foreseeRenewal(this.#parts, spec, force, { signal }));
      return summarize(await waitForAll(plans), []);
    }
    const issue: LocalService['issue'] = (...order) => this.issue(...order);
    return this.#changeEach(specs, { signal, onProgress }, (spec, options) =>
      renewOne(this.#parts, spec, { force, issue }, options),
    );
  }

  /** Changes certificates, then brings those with a new generation to their hosts. */
  async #changeEach(
    specs: readonly CertificateSpec[],
    { signal, onProgress }: CommandOptions,
    change: (
      spec: CertificateSpec,
      options: EffectOptions & Pick<CommandOptions, 'onProgress'>,
    ) => Promise<CertificateResult>,
  ): Promise<Summary> {
    const options = this.#effects(signal);
    const sinceMs = this.#parts.deps.clock.monotonicMs();
    const certificates = await waitForAll(specs.map((spec) => change(spec, { ...options, onProgress })));
    const changed = certificates
      .filter(({ action }) => action !== 'kept' && action !== 'failed')
      .map(({ certificate }) => certificate);
    if (changed.length === 0) return summarize(certificates, []);
    const targets = await this.#targets({ certificates: changed }, options);
    const places = await this.#distribute(targets, { ...options, sinceMs, awaited: changed }, onProgress);
    return summarize(
      certificates,
      places.filter(({ certificate }) => changed.includes(certificate)),
      unlearnedPools(this.#parts),
    );
  }

  async reload(
    { pool, host }: { pool: string | undefined; host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<ReloadSummary> {
    if (pool !== undefined) assertPoolNamed(this.#parts.config, pool);
    const effects = this.#effects(signal);
    const all = await this.#targets({ host }, effects);
    const targets = all.filter((target) => (pool ?? target.pool.name) === target.pool.name);
    return reloadHosts(this.#parts.config, targets, this.#parts.deps, { ...effects, onProgress });
  }

  async rollback(
    { name, to }: { name: string; to: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    const named = certificatesNamed(this.#parts.config, [name]);
    const specs = await whoseBundle(named, to, this.#parts.bundles, { signal });
    return this.#changeEach(specs, { signal, onProgress }, async (spec, options) => {
      const result = await rollBackOne(this.#parts, spec, to, options);
      if (result.action === 'rolled back') this.#onActivated(spec.name);
      return result;
    });
  }

  async adopt(
    { origin, names, dryRun, complete }: AdoptionRequest,
    { signal, onProgress }: CommandOptions,
  ): Promise<AdoptionSummary> {
    const { config, adoption } = this.#parts;
    const effects = dryRun ? undefined : this.#effects(signal);
    const specs = certificatesNamed(config, names);
    await this.roster.ensure({ signal, mandate: this.#mandate });
    const found = await adoption.find(origin, specs, { signal });
    const { problems } = found;
    for (const { where, reason } of problems) onProgress({ message: `${where}: not read (${reason})` });
    const accounts = await adoption.adoptAccounts(found.accounts, { signal, effects });
    for (const { issuer, action, reason } of accounts)
      onProgress({ message: `account at ${issuer}: ${action} (${reason})` });
    const adopt = async (spec: CertificateSpec) => {
      const result = await adoption.adopt(spec, found.candidates, { signal, effects, complete });
      onProgress({ message: `${spec.name}: ${result.action} (${result.reason})` });
      if (result.action === 'adopted') this.#onActivated(spec.name);
      return result;
    };
    const summary = dryRun
      ? summarize(await waitForAll(specs.map(adopt)), [], unlearnedPools(this.#parts))
      : await this.#changeEach(specs, { signal, onProgress }, adopt);
    const outcome = outcomeOfAdoption({ ...summary, accounts, problems }, { complete });
    return { ...summary, outcome, accounts, problems };
  }

  async revoke(request: RevokeRequest, { signal, onProgress }: CommandOptions): Promise<Summary> {
    const options = this.#effects(signal);
    const sinceMs = this.#parts.deps.clock.monotonicMs();
    const steps = {
      issue: async (spec: CertificateSpec, reason: string) => {
        const { issuer } = await this.#parts.planner.force(spec, options);
        await this.issue(spec, issuer, reason, options);
      },
      distribute: async (certificate: string) => {
        const targets = await this.#targets({ certificates: [certificate] }, options);
        const since = { sinceMs, awaited: [certificate] };
        const places = await this.#distribute(targets, { ...options, ...since }, onProgress);
        return places.filter((place) => place.certificate === certificate);
      },
      placesOf: (spec: CertificateSpec) => successorPlaces(this.#parts, spec, options),
      onChanged: this.#onActivated,
    };
    const specs = certificatesNamed(this.#parts.config, [request.certificate]);
    return revokeCertificates(specs, request, this.#parts.revocations, steps, { ...options, onProgress });
  }

  /** Revokes what is replaced everywhere by now. Resolves to whether something is left to be revoked. */
  concludeRevocations(options: EffectOptions): Promise<boolean> {
    return concludeRevocations(this.#parts, options);
  }

  async distribute(
    { host }: { host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    const effects = this.#effects(signal);
    const targets = await this.#targets({ host }, effects);
    const places = await this.#distribute(targets, effects, onProgress);
    return summarize([], places, host === undefined ? unlearnedPools(this.#parts) : []);
  }

  /** Like `RenewalPlanner.decide`. */
  decide(spec: CertificateSpec, options: EffectOptions): Promise<RenewalPlan> {
    return this.#parts.planner.decide(spec, options);
  }

  /** Who asks while the same certificate is being issued gets that issuance's result. */
  async issue(spec: CertificateSpec, issuer: string, reason: string, options: EffectOptions): Promise<void> {
    const { mandate } = options;
    await this.#coordination.issuing.run(
      spec.name,
      async (own) => {
        const signal = AbortSignal.any([own.signal, mandate.signal]);
        const order = () =>
          this.#orders.run(() => this.#parts.issuer.issue(spec, issuer, reason, { signal, mandate }), {
            signal,
          });
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

  #targets(
    only: Parameters<typeof presentTargets>[1],
    { signal }: { signal: AbortSignal },
  ): Promise<readonly Target[]> {
    return presentTargets(this.#parts, only, { signal, mandate: this.#mandate });
  }

  async #distribute(
    targets: readonly Target[],
    options: EffectOptions & { readonly sinceMs?: number; readonly awaited?: readonly string[] },
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
