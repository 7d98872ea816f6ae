import { KacmeError, reportError } from '../domain/errors.ts';
import { type Lane, laneOf } from '../domain/lane.ts';
import type { PoolSpec } from '../domain/model.ts';
import type { Means } from '../domain/place-decision.ts';
import { isInSync, type PlaceResult, type PlaceStatus } from '../domain/status.ts';
import type { HostChange, Verification } from '../ports/haproxy-host.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Desired } from './bundles.ts';
import type { CanaryGate, ChangeTurn } from './canary.ts';
import type { AppDeps } from './deps.ts';
import type { Target } from './host-journal.ts';
import type { Leftovers } from './leftovers.ts';
import { failed, type Place, placeIs, whenHalted } from './place.ts';
import type { ReloadPauses } from './reload-pauses.ts';
import { type PlaceChange, servernameOf, type Verdicts } from './verdicts.ts';

/** Waiting longer than this for the canary makes a host look again before it acts. */
const STALE_OBSERVATION_MS = 5_000;

/** What became of one place. */
export interface Settled {
  readonly status: PlaceStatus;
  readonly action: PlaceResult['action'];
  readonly inSync: boolean;
}

const leftAs = (status: PlaceStatus): Settled => ({ status, action: 'left', inSync: false });

/** Resolves to the change that is still needed; undefined when there is none any more. */
type LookAgain = () => Promise<PlaceChange | undefined>;

export interface ChangeParts {
  readonly canaries: CanaryGate;
  readonly verdicts: Verdicts;
  readonly leftovers: Leftovers;
  readonly reloads: ReloadPauses;
}

/** Changes places in their turn: after the canary of the rollout, and side by side within the bounds of the pool. */
export class PlaceChanges {
  readonly #canaries: CanaryGate;
  readonly #verdicts: Verdicts;
  readonly #leftovers: Leftovers;
  readonly #reloads: ReloadPauses;
  readonly #deps: Pick<AppDeps, 'hosts' | 'clock' | 'log'>;
  /** By pool: changes are bounded by its `parallel`. */
  readonly #lanes = new Map<string, Lane>();

  constructor({ canaries, verdicts, leftovers, reloads }: ChangeParts, deps: AppDeps) {
    this.#canaries = canaries;
    this.#verdicts = verdicts;
    this.#leftovers = leftovers;
    this.#reloads = reloads;
    this.#deps = deps;
  }

  /** Throws only when it is told to stop: what goes wrong on the host is in the result. */
  async make(
    target: Target,
    place: Place & { readonly decision: PlaceChange },
    lookAgain: LookAgain,
    options: EffectOptions,
  ): Promise<Settled> {
    const { desired, deployment, decision } = place;
    if (desired === undefined) throw new RangeError('a change has a bundle to bring');
    const { pool, host } = target;
    const { generation } = desired.place;
    const log = this.#deps.log.child({
      pool: pool.name,
      host: host.name,
      certificate: deployment.certificate,
      path: deployment.path,
      generation,
    });
    log.info(
      { reason: decision.reason, writeFile: decision.writeFile, means: decision.means },
      'change decided',
    );

    const askedMs = this.#deps.clock.monotonicMs();
    const rollout = { pool: pool.name, certificate: deployment.certificate, generation };
    const loads = decision.means !== 'install';
    const turn = loads
      ? await this.#canaries.turn(rollout, host.name, options)
      : await this.#canaries.withoutLeading(rollout, options);
    // A host that HAProxy could not start on gets its file even so: nothing there is worse than a bundle in doubt.
    const obeysHalt = loads || !decision.lacksFile;
    if (turn.kind === 'superseded')
      return leftAs(placeIs(place, 'out of sync', 'a newer bundle is on its way'));
    if (turn.kind === 'halted' && obeysHalt) return leftAs(whenHalted(place, turn, host));
    const attempt = async (): Promise<Settled> => {
      try {
        // Those who went before it may have halted the rollout while it waited for its place among them.
        const halted = turn.kind === 'lead' ? undefined : await this.#canaries.halted(rollout, options);
        if (halted !== undefined && obeysHalt) return leftAs(whenHalted(place, halted, host));
        return await this.#makeInTurn(target, { ...place, desired }, { turn, askedMs, lookAgain }, options);
      } catch (error) {
        await this.#reportFailed(turn, pool, error, options);
        options.signal.throwIfAborted();
        if (decision.means === 'reload') this.#reloads.failed(target, deployment, error);
        log.error({ err: error }, 'change failed');
        return { status: failed(place, error), action: 'failed', inSync: false };
      }
    };
    try {
      return await laneOf(this.#lanes, pool.name, pool.parallel).run(attempt, { signal: options.signal });
    } catch (error) {
      if (turn.kind === 'lead') turn.canary.passOn();
      throw error;
    }
  }

  async #makeInTurn(
    target: Target,
    place: Place & { readonly desired: Desired; readonly decision: PlaceChange },
    {
      turn,
      askedMs,
      lookAgain,
    }: { readonly turn: ChangeTurn; readonly askedMs: number; readonly lookAgain: LookAgain },
    options: EffectOptions,
  ): Promise<Settled> {
    const { desired, decision, deployment } = place;
    const waitedMs = this.#deps.clock.monotonicMs() - askedMs;
    const present = waitedMs > STALE_OBSERVATION_MS ? await lookAgain() : decision;
    if (present === undefined) {
      if (turn.kind === 'lead') turn.canary.passOn();
      return leftAs(placeIs(place, 'out of sync', 'changed while it waited for its turn'));
    }
    const change = changeFor(place, desired, present);
    const verification = await this.#apply(target, change, options);
    if (turn.kind === 'lead') await turn.canary.proven();
    else if (turn.kind === 'follow') await turn.follower.proven();
    if (present.means === 'reload') this.#reloads.helped(target, deployment);
    const status = await this.#verdicts.changed(target, place, present, verification, options);
    return { status, action: DONE[present.means], inSync: isInSync(status.state) === true };
  }

  async #apply(target: Target, change: HostChange, options: EffectOptions): Promise<Verification> {
    const { pool, host } = target;
    let cleanedUp = false;
    try {
      const applied = await this.#deps.hosts.host(pool, host).apply(change, options);
      cleanedUp = applied.cleanedUp;
      return applied.verification;
    } finally {
      if (!cleanedUp) this.#leftovers.expect(target, change.deployment);
    }
  }

  async #reportFailed(
    turn: ChangeTurn,
    { stopAfter }: PoolSpec,
    error: unknown,
    { signal, mandate }: EffectOptions,
  ): Promise<void> {
    const doubtful =
      error instanceof KacmeError &&
      (error.code === 'ERR_HAPROXY_REFUSED' || error.code === 'ERR_HOST_UNVERIFIED') &&
      !signal.aborted &&
      !mandate.signal.aborted;
    if (turn.kind === 'lead') {
      if (doubtful) await turn.canary.halt(reportError(error));
      else turn.canary.passOn();
    } else if (turn.kind === 'follow' && doubtful) await turn.follower.doubt(reportError(error), stopAfter);
  }
}

const DONE: Readonly<Record<Means, PlaceResult['action']>> = {
  swap: 'swapped',
  add: 'added',
  reload: 'reloaded',
  install: 'installed',
};

function changeFor(place: Place, desired: Desired, decision: PlaceChange): HostChange {
  return {
    deployment: place.deployment,
    pem: desired.pem,
    fingerprint256: desired.place.facts.fingerprint256,
    writeFile: decision.writeFile,
    listFile: decision.listFile,
    means: decision.means,
    // A change of files alone is not undone when handshakes fail: a file that was missing is worth having whatever they say.
    verifyServername: decision.means === 'install' ? undefined : servernameOf(desired),
  };
}
