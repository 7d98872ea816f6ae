import { effectivePool } from '../domain/effective-pool.ts';
import { type Lane, laneOf } from '../domain/lane.ts';
import type { DeploymentSpec, KacmeConfig } from '../domain/model.ts';
import type { HostObservation } from '../domain/observation.ts';
import { decidePlace } from '../domain/place-decision.ts';
import { scopedSignal } from '../domain/scoped-signal.ts';
import { type HostStatus, isInSync, type PlaceResult, type PlaceStatus } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Bundles } from './bundles.ts';
import type { CanaryGate, RolloutName } from './canary.ts';
import { ChangePauses } from './change-pauses.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Recalled } from './handshake-memory.ts';
import { HostJournal, idOf, resultOf, type Target } from './host-journal.ts';
import { Leftovers } from './leftovers.ts';
import { failed, type Place } from './place.ts';
import { type ChangingPlace, PlaceChanges, type Settled } from './place-changes.ts';
import type { Roster } from './roster.ts';
import { Verdicts } from './verdicts.ts';

type PassOptions = EffectOptions & { readonly due?: Recalled | undefined };

export interface FleetParts {
  readonly bundles: Bundles;
  readonly canaries: CanaryGate;
  readonly roster: Roster;
}

/** Brings hosts to their bundles: observe, decide, act, verify. What it knows of hosts may be lost at any time. */
export class Fleet {
  readonly #config: KacmeConfig;
  readonly #bundles: Bundles;
  readonly #roster: Roster;
  readonly #deps: AppDeps;
  readonly #canaries: CanaryGate;
  readonly #journal: HostJournal;
  readonly #verdicts: Verdicts;
  readonly #leftovers: Leftovers;
  readonly #pauses: ChangePauses;
  readonly #changes: PlaceChanges;
  /** One host is reconciled once at a time. */
  readonly #hostLanes = new Map<string, Lane>();

  constructor(config: KacmeConfig, { bundles, canaries, roster }: FleetParts, deps: AppDeps) {
    this.#config = config;
    this.#roster = roster;
    this.#bundles = bundles;
    this.#canaries = canaries;
    this.#deps = deps;
    this.#journal = new HostJournal(deps);
    this.#verdicts = new Verdicts(deps, canaries);
    this.#leftovers = new Leftovers(deps);
    this.#pauses = new ChangePauses(deps);
    this.#changes = new PlaceChanges(
      { canaries, verdicts: this.#verdicts, leftovers: this.#leftovers, pauses: this.#pauses },
      deps,
    );
  }

  /** Every present host that has a deployment, narrowed by its configured name or to those that serve some certificate. */
  targets(only: { host?: string | undefined; certificates?: readonly string[] } = {}): readonly Target[] {
    return Object.values(this.#config.pools).flatMap((pool) => {
      const deployments = this.#config.deployments.filter((deployment) => deployment.pool === pool.name);
      const concerned = deployments.some(
        ({ certificate }) => only.certificates?.includes(certificate) ?? true,
      );
      if (!concerned || deployments.length === 0) return [];
      return this.#roster
        .hostsOf(pool)
        .filter((host) => only.host === undefined || host.name === only.host)
        .map((host) => ({ pool: effectivePool(pool, host), host, deployments }));
    });
  }

  /** As last observed. */
  statuses(generations: ReadonlyMap<string, number>): readonly HostStatus[] {
    return this.targets().map((target) => this.#journal.statusOf(target, generations));
  }

  /** What was known of other hosts is forgotten. */
  retain(targets: readonly Target[]): void {
    this.#journal.retain(targets);
  }

  /** Looks and decides, changes nothing: for a status without a running service. */
  async inspect(target: Target, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#hostLane(target).run(
      async () => {
        const looked = await this.#look(target, { signal });
        if (looked === undefined) return;
        const places = await Promise.all(
          looked.places.map((place) => this.#verdicts.untouched(target, place, { signal })),
        );
        this.#journal.record(target, looked.observation, places);
      },
      { signal },
    );
  }

  /**
   * Never throws for what goes wrong on the host: that is in the results. Throws when aborted. A change that another
   * call made after `sinceMs` (monotonic) is told as this call's: whoever waits for it need not know who was faster. When
   * one has brought the present bundles of all `awaited` certificates since then, the host is not looked at again.
   * `sparing`: handshakes are not made again at once where nothing has changed.
   */
  async reconcile(
    target: Target,
    {
      sinceMs = Number.POSITIVE_INFINITY,
      awaited = [],
      sparing = false,
      signal,
      mandate,
    }: EffectOptions & {
      readonly sinceMs?: number;
      readonly awaited?: readonly string[];
      readonly sparing?: boolean;
    },
  ): Promise<readonly PlaceResult[]> {
    using own = scopedSignal(signal);
    const options = { signal: own.signal, mandate };
    return await this.#hostLane(target).run(
      async () => {
        const brought = await this.#brought(target, awaited, sinceMs, options);
        if (brought !== undefined) return brought;
        const startMs = this.#deps.clock.monotonicMs();
        const looked = await this.#look(target, options);
        if (looked === undefined) return this.#journal.resultsOfUnreachable(target);
        const results: PlaceResult[] = [];
        const places: PlaceStatus[] = [];
        const recalled = sparing ? this.#verdicts.recall(target, looked.places) : undefined;
        for (const place of looked.places) {
          const due = recalled?.get(place);
          const { status, action, inSync } = await this.#settle(target, place, { ...options, due });
          places.push(status);
          const done = this.#journal.doneTo(target, status, action, sinceMs);
          results.push(resultOf(target, status, done, inSync));
        }
        const done = looked.places.filter((place, i) => holdsBundle(place, places[i]));
        await this.#leftovers.sweep(
          target,
          done.map(({ deployment }) => deployment),
          options,
        );
        await this.#leftovers.endTransaction(target, looked.observation, options);
        this.#journal.record(target, looked.observation, places);
        const durationMs = Math.round(this.#deps.clock.monotonicMs() - startMs);
        this.#deps.log.debug(
          { pool: target.pool.name, host: target.host.name, places: places.length, durationMs },
          'host reconciled',
        );
        return results;
      },
      { signal: options.signal },
    );
  }

  /** An operator wants these hosts to be tried now: no halted rollout is waited for, nor the pause after a failed change. */
  async resume(targets: readonly Target[], options: EffectOptions): Promise<void> {
    await this.#endPauses(targets, options);
    const rollouts = targets.flatMap(({ pool, deployments }) =>
      deployments.map(({ certificate }): [string, RolloutName] => [
        `${pool.name}/${certificate}`,
        { pool: pool.name, certificate },
      ]),
    );
    await waitForAll(
      [...new Map(rollouts).values()].map(async (rollout) => {
        try {
          await this.#canaries.resume(rollout, options);
        } catch (error) {
          // The places that need its record report it.
          this.#deps.log.debug({ err: expectedFailure(error, options), ...rollout }, 'rollout not resumed');
        }
      }),
    );
  }

  async #endPauses(targets: readonly Target[], options: EffectOptions): Promise<void> {
    try {
      await this.#pauses.recall(targets, options);
    } catch (error) {
      // The places that need what cannot be read report it.
      this.#deps.log.debug({ err: expectedFailure(error, options) }, 'pauses unknown');
    }
    await this.#pauses.end(targets, options);
  }

  /** What was done since `sinceMs`, when that is all that `awaited` is about. */
  async #brought(
    target: Target,
    awaited: readonly string[],
    sinceMs: number,
    { signal }: { signal: AbortSignal },
  ): Promise<readonly PlaceResult[] | undefined> {
    if (awaited.length === 0) return undefined;
    const generations = new Map<string, number>();
    for (const name of awaited) {
      const spec = this.#config.certificates[name];
      try {
        const desired = spec && (await this.#bundles.desired(spec, { signal }));
        if (desired === undefined) return undefined;
        generations.set(name, desired.place.generation);
      } catch (error) {
        // The look at the host tells it, place by place.
        this.#deps.log.debug(
          { err: expectedFailure(error, { signal }), certificate: name },
          'bundle unknown',
        );
        return undefined;
      }
    }
    return this.#journal.resultsSince(target, generations, sinceMs);
  }

  async #look(
    target: Target,
    { signal, mandate }: { signal: AbortSignal; mandate?: EffectOptions['mandate'] },
  ): Promise<{ observation: HostObservation; places: readonly Place[] } | undefined> {
    const { pool, host, deployments } = target;
    let observation: HostObservation;
    try {
      observation = await this.#deps.hosts.host(pool, host).observe(deployments, { signal });
    } catch (error) {
      // Also of a file that leads to it, such as the pool's identity: other pools have others.
      this.#journal.recordFailure(target, expectedFailure(error, { signal }));
      return undefined;
    }
    // Nobody knows what it went through: it is brought in step at once.
    if (mandate !== undefined && this.#journal.isAway(target))
      await this.#endPauses([target], { signal, mandate });
    const places = await waitForAll(
      deployments.map((deployment) => this.#decide(target, deployment, observation, { signal })),
    );
    return { observation, places };
  }

  /** A damaged record, or a file that cannot be read, keeps its own place from being decided, and no other one. */
  async #decide(
    target: Target,
    deployment: DeploymentSpec,
    observation: HostObservation,
    { signal }: { signal: AbortSignal },
  ): Promise<Place> {
    const worker = observation.haproxy.state === 'running' ? observation.haproxy.worker : undefined;
    const observed = observation.places[deployment.path];
    const unknown = {
      deployment,
      desired: undefined,
      decision: undefined,
      failure: undefined,
      observed,
      worker,
    };
    const spec = this.#config.certificates[deployment.certificate];
    try {
      const desired = spec && (await this.#bundles.desired(spec, { signal }));
      if (desired === undefined) return unknown;
      const failure = observation.unreadable?.[deployment.path];
      if (failure !== undefined) return { ...unknown, desired, failure };
      const { generation } = desired.place;
      const paused = await this.#pauses.of(target, deployment, generation, { signal });
      const reload = this.#pauses.reload(target);
      const now = this.#deps.clock.now();
      const decision = decidePlace(desired.place, deployment, observation, reload, now, paused);
      return { ...unknown, desired, decision };
    } catch (error) {
      return { ...unknown, failure: expectedFailure(error, { signal }) };
    }
  }

  async #settle(target: Target, place: Place, options: PassOptions): Promise<Settled> {
    try {
      const change = changing(place);
      if (change === undefined) return await this.#leave(target, place, options);
      const lookAgain = () => this.#lookAgain(target, place, options);
      return await this.#changes.make(target, change, lookAgain, options);
    } catch (error) {
      return {
        status: failed(place, expectedFailure(error, options)),
        action: 'failed',
        inSync: false,
      };
    }
  }

  async #leave(target: Target, place: Place, options: PassOptions): Promise<Settled> {
    if (place.failure !== undefined) throw place.failure;
    const status = await this.#verdicts.unchanged(target, place, options);
    // A bootstrap certificate yields to whatever is better: such a host lacks nothing.
    const yields = place.desired?.place.facts.selfSigned === true && status.state === 'foreign';
    return { status, action: 'left', inSync: yields || isInSync(status.state) === true };
  }

  /** Undefined when no change is needed any more, or the host cannot be looked at. */
  async #lookAgain(
    target: Target,
    { deployment }: Place,
    options: EffectOptions,
  ): Promise<ChangingPlace | undefined> {
    const looked = await this.#look(target, options);
    const place = looked?.places.find((other) => other.deployment === deployment);
    return place && changing(place);
  }

  #hostLane(target: Target): Lane {
    return laneOf(this.#hostLanes, idOf(target), 1);
  }
}

function changing(place: Place): ChangingPlace | undefined {
  const { desired, decision } = place;
  return desired !== undefined && decision?.action === 'change' ? { ...place, desired, decision } : undefined;
}

/** In file, memory and handshakes, as far as there are any: nobody goes back from there. */
const holdsBundle = ({ decision }: Place, status: PlaceStatus | undefined): boolean =>
  decision?.action === 'none' &&
  decision.memory &&
  (status?.state === 'in sync' || status?.state === 'unverified');
