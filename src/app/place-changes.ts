import { KacmeError, reportError } from '../domain/errors.ts';
import { type Lane, laneOf } from '../domain/lane.ts';
import type { PoolSpec } from '../domain/model.ts';
import type { Means } from '../domain/place-decision.ts';
import { isInSync, type PlaceResult, type PlaceStatus } from '../domain/status.ts';
import type { HostChange, Verification } from '../ports/haproxy-host.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { CanaryGate, ChangeTurn } from './canary.ts';
import type { ChangePauses } from './change-pauses.ts';
import type { AppDeps } from './deps.ts';
import type { Desired } from './desired-bundles.ts';
import type { Target } from './host-journal.ts';
import type { Leftovers } from './leftovers.ts';
import { failed, type Place, placeIs, whenHalted } from './place.ts';
import { type PlaceChange, servernameOf, type Verdicts } from './verdicts.ts';

/** A place that is not as it should be, and what is to be done about it. */
export type ChangingPlace = Place & { readonly desired: Desired; readonly decision: PlaceChange };

/** What became of one place. */
export interface Settled {
  readonly status: PlaceStatus;
  readonly action: PlaceResult['action'];
  readonly inSync: boolean;
}

const leftAs = (status: PlaceStatus): Settled => ({ status, action: 'left', inSync: false });

/** Resolves to the change that is needed now; undefined when there is none any more. */
type LookAgain = () => Promise<ChangingPlace | undefined>;

export interface ChangeParts {
  readonly canaries: CanaryGate;
  readonly verdicts: Verdicts;
  readonly leftovers: Leftovers;
  readonly pauses: ChangePauses;
}

/** Changes places in their turn: after the canary of the rollout, and side by side within the bounds of the pool. */
export class PlaceChanges {
  readonly #canaries: CanaryGate;
  readonly #verdicts: Verdicts;
  readonly #leftovers: Leftovers;
  readonly #pauses: ChangePauses;
  readonly #deps: Pick<AppDeps, 'hosts' | 'log'>;
  /** By pool: changes are bounded by its `parallel`. */
  readonly #lanes = new Map<string, Lane>();

  constructor({ canaries, verdicts, leftovers, pauses }: ChangeParts, deps: Pick<AppDeps, 'hosts' | 'log'>) {
    this.#canaries = canaries;
    this.#verdicts = verdicts;
    this.#leftovers = leftovers;
    this.#pauses = pauses;
    this.#deps = deps;
  }

  /** Throws only when it is told to stop: what goes wrong on the host is in the result. */
  async make(
    target: Target,
    place: ChangingPlace,
    lookAgain: LookAgain,
    options: EffectOptions,
  ): Promise<Settled> {
    const { desired, deployment, decision } = place;
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

    const rollout = { pool: pool.name, certificate: deployment.certificate, generation };
    const turn = loads(place)
      ? await this.#canaries.turn(rollout, host.name, options)
      : await this.#canaries.withoutLeading(rollout, options);
    // A host that HAProxy could not start on gets its file even so: nothing there is worse than a bundle in doubt.
    const obeysHalt = loads(place) || !decision.lacksFile;
    const obstacle = (now: ChangeTurn): Settled | undefined => {
      if (now.kind === 'superseded')
        return leftAs(placeIs(place, 'out of sync', 'a newer bundle is on its way'));
      return now.kind === 'halted' && obeysHalt ? leftAs(whenHalted(place, now, host)) : undefined;
    };
    const kept = obstacle(turn);
    if (kept !== undefined) return kept;
    const attempt = async (): Promise<Settled> => {
      try {
        // While it waited for its place among them, others may have halted the rollout, and a newer bundle may have come.
        const now = turn.kind === 'lead' ? turn : await this.#canaries.withoutLeading(rollout, options);
        return obstacle(now) ?? (await this.#makeInTurn(target, place, { turn, lookAgain }, options));
      } catch (error) {
        await this.#reportFailed(turn, pool, error, options);
        options.signal.throwIfAborted();
        const { means } = decision;
        // What halts the rollout is tried again with it.
        const retryAt =
          turn.kind === 'lead' && means !== 'reload' && isDoubtful(error)
            ? undefined
            : await this.#pauses.failed(target, deployment, { error, means, generation }, options);
        log.error({ err: error, retryAt }, 'change failed');
        return { status: failed(place, error, retryAt), action: 'failed', inSync: false };
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
    decided: ChangingPlace,
    { turn, lookAgain }: { readonly turn: ChangeTurn; readonly lookAgain: LookAgain },
    options: EffectOptions,
  ): Promise<Settled> {
    const applied = await this.#applyPresent(target, decided, { turn, lookAgain }, options);
    if (applied === undefined) {
      if (turn.kind === 'lead') turn.canary.passOn();
      return leftAs(placeIs(decided, 'out of sync', 'changed while it waited for its turn'));
    }
    if (turn.kind === 'lead') await turn.canary.proven();
    else if (turn.kind === 'follow') await turn.follower.proven();
    const { place, verification } = applied;
    const { decision, deployment } = place;
    if (decision.means !== 'install') await this.#pauses.helped(target, deployment, options);
    const status = await this.#verdicts.changed(target, place, decision, verification, options);
    return { status, action: DONE[decision.means], inSync: isInSync(status.state) === true };
  }

  /** Decides once more where the host holds something else by now; undefined when this is left for the next look. */
  async #applyPresent(
    target: Target,
    decided: ChangingPlace,
    { turn, lookAgain }: { readonly turn: ChangeTurn; readonly lookAgain: LookAgain },
    options: EffectOptions,
  ): Promise<{ readonly place: ChangingPlace; readonly verification: Verification } | undefined> {
    try {
      return { place: decided, verification: await this.#apply(target, decided, turn, options) };
    } catch (error) {
      if (!(error instanceof KacmeError && error.code === 'ERR_HOST_CHANGED')) throw error;
      this.#deps.log.info({ err: error }, 'change decided again');
      const place = await lookAgain();
      if (place?.desired.place.generation !== decided.desired.place.generation) return undefined;
      // Its turn among the hosts was for what was decided: a change of files proves nothing, and one of memory may have to lead.
      if (loads(place) !== loads(decided)) return undefined;
      return { place, verification: await this.#apply(target, place, turn, options) };
    }
  }

  async #apply(
    target: Target,
    place: ChangingPlace,
    turn: ChangeTurn,
    options: EffectOptions,
  ): Promise<Verification> {
    const { pool, host } = target;
    const { deployment } = place;
    let cleanedUp = false;
    try {
      const applied = await this.#deps.hosts.host(pool, host).apply(
        {
          ...changeFor(place),
          // The canary proves the bundle with all of them.
          handshakes: turn.kind === 'follow' ? this.#verdicts.handshakesAfter(target, place) : undefined,
          tidy: this.#leftovers.isSwept(target, deployment, options),
        },
        options,
      );
      cleanedUp = applied.cleanedUp;
      return applied.verification;
    } finally {
      if (!cleanedUp) this.#leftovers.expect(target, deployment);
    }
  }

  async #reportFailed(
    turn: ChangeTurn,
    { stopAfter }: PoolSpec,
    error: unknown,
    { signal, mandate }: EffectOptions,
  ): Promise<void> {
    const doubtful = isDoubtful(error) && !signal.aborted && !mandate.signal.aborted;
    if (turn.kind === 'lead') {
      if (doubtful) await turn.canary.halt(reportError(error));
      else turn.canary.passOn();
    } else if (turn.kind === 'follow' && doubtful) await turn.follower.doubt(reportError(error), stopAfter);
  }
}

/** Whether HAProxy's memory takes part. */
const loads = ({ decision }: ChangingPlace): boolean => decision.means !== 'install';

/** Whether it may be the bundle. */
const isDoubtful = (error: unknown): boolean =>
  error instanceof KacmeError &&
  (error.code === 'ERR_HAPROXY_REFUSED' || error.code === 'ERR_HOST_UNVERIFIED');

const DONE: Readonly<Record<Means, PlaceResult['action']>> = {
  swap: 'swapped',
  add: 'added',
  reload: 'reloaded',
  install: 'installed',
};

function changeFor({ deployment, desired, decision, observed: place, worker }: ChangingPlace): HostChange {
  return {
    deployment,
    pem: desired.pem,
    fingerprint256: desired.place.facts.fingerprint256,
    writeFile: decision.writeFile,
    listFile: decision.listFile,
    means: decision.means,
    // A change of files alone is not undone when handshakes fail: a file that was missing is worth having whatever they say.
    verifyServername: decision.means === 'install' ? undefined : servernameOf(desired),
    ...(place === undefined ? {} : { basis: { place, worker } }),
  };
}
