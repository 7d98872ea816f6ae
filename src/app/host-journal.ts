import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { type ErrorCode, type ErrorReport, type KacmeError, reportError } from '../domain/errors.ts';
import type { DeploymentSpec, HostSpec, PoolSpec } from '../domain/model.ts';
import type { HostObservation } from '../domain/observation.ts';
import {
  type HostStatus,
  isInSync,
  type PlaceResult,
  type PlaceState,
  type PlaceStatus,
} from '../domain/status.ts';
import type { AppDeps } from './deps.ts';

/** One HAProxy process and what is deployed to it. */
export interface Target {
  readonly pool: PoolSpec;
  readonly host: HostSpec;
  readonly deployments: readonly DeploymentSpec[];
}

export const idOf = ({ pool, host }: Pick<Target, 'pool' | 'host'>): string =>
  `${pool.name}/${host.name}:${host.port}`;

interface Changed {
  readonly host: HostSpec;
  readonly generation: number | undefined;
  readonly action: PlaceResult['action'];
  readonly atMs: number;
}

/** What hosts were last seen to hold, and what was done to them. It may be lost at any time: looking gives it back. */
export class HostJournal {
  readonly #deps: Pick<AppDeps, 'clock' | 'log'>;
  readonly #statuses = new Map<string, HostStatus>();
  readonly #changed = new Map<string, Changed>();

  constructor(deps: Pick<AppDeps, 'clock' | 'log'>) {
    this.#deps = deps;
  }

  /** Whoever comes back is looked at anew. */
  retain(targets: readonly Target[]): void {
    const present = new Set(targets.map(idOf));
    for (const id of this.#statuses.keys()) if (!present.has(id)) this.#statuses.delete(id);
  }

  /** What was compared with an older generation than the present one is out of sync since. */
  statusOf(target: Target, generations: ReadonlyMap<string, number>): HostStatus {
    const outdated = (place: PlaceStatus): boolean =>
      isInSync(place.state) === true && (place.generation ?? 0) < (generations.get(place.certificate) ?? 0);
    const status = this.#statuses.get(idOf(target)) ?? unknownStatus(target);
    const places = status.places.map(
      (place): PlaceStatus =>
        outdated(place) ? { ...place, state: 'out of sync', reason: 'a newer bundle is on its way' } : place,
    );
    return { ...status, places };
  }

  record(target: Target, observation: HostObservation, places: readonly PlaceStatus[]): void {
    const before = this.#statuses.get(idOf(target));
    const { haproxy } = observation;
    const status: HostStatus = {
      pool: target.pool.name,
      host: target.host.name,
      reachable: true,
      haproxyVersion: haproxy.state === 'running' ? haproxy.version : undefined,
      observedAt: this.#deps.clock.now().toISOString(),
      places,
    };
    this.#statuses.set(idOf(target), status);
    const log = this.#logOf(target);
    if (before?.reachable === false) log.info('host is back');
    places.forEach((place, i) => {
      if (before?.places[i]?.state === place.state) return;
      const level = isInSync(place.state) ? 'info' : 'warn';
      log[level](
        { certificate: place.certificate, path: place.path, state: place.state, reason: place.reason },
        'place state changed',
      );
    });
  }

  /** Whether the last look found nobody. */
  isAway(target: Target): boolean {
    return this.#statuses.get(idOf(target))?.reachable === false;
  }

  recordFailure(target: Target, error: KacmeError): void {
    const before = this.#statuses.get(idOf(target));
    const failure = reportError(error);
    const state = STATES[error.code] ?? 'failed';
    const places = target.deployments.map((deployment): PlaceStatus => {
      const { certificate, path } = deployment;
      return { certificate, path, generation: undefined, state, reason: error.message, failure };
    });
    this.#statuses.set(idOf(target), {
      pool: target.pool.name,
      host: target.host.name,
      reachable: false,
      haproxyVersion: before?.haproxyVersion,
      observedAt: this.#deps.clock.now().toISOString(),
      places,
    });
    const repeated = before?.places[0]?.failure?.message === error.message;
    this.#logOf(target)[repeated ? 'debug' : 'warn']({ err: error }, 'host cannot be observed');
  }

  resultsOfUnreachable({ pool, host, deployments }: Target): readonly PlaceResult[] {
    const failures = this.#statuses.get(idOf({ pool, host }))?.places;
    return deployments.map(({ certificate, path }, i) => {
      const failure: ErrorReport | undefined = failures?.[i]?.failure;
      const reason = failure?.message ?? 'the host cannot be observed';
      return {
        pool: pool.name,
        host: host.name,
        certificate,
        path,
        action: 'failed',
        inSync: false,
        reason,
        failure,
      };
    });
  }

  /** What was done to a place, by this call or by another one since `sinceMs`. */
  doneTo(
    target: Target,
    { path, generation }: PlaceStatus,
    action: PlaceResult['action'],
    sinceMs: number,
  ): PlaceResult['action'] {
    const id = changeOf(target, path);
    if (action !== 'left' && action !== 'failed') {
      this.#changed.set(id, {
        host: target.host,
        generation,
        action,
        atMs: this.#deps.clock.monotonicMs(),
      });
    }
    const last = this.#changed.get(id);
    if (last === undefined) return action;
    return action === 'left' && last.generation === generation && last.atMs >= sinceMs ? last.action : action;
  }

  /**
   * Undefined unless every place of `awaited` (certificates by their present generation) was changed since `sinceMs`, with
   * all its handshakes, and the last look found it in sync: then another look would tell nothing new.
   */
  resultsSince(
    target: Target,
    awaited: ReadonlyMap<string, number>,
    sinceMs: number,
  ): readonly PlaceResult[] | undefined {
    const places = this.#statuses.get(idOf(target))?.places ?? [];
    const brought = ({ certificate, path }: DeploymentSpec): boolean => {
      const status = places.find((place) => place.certificate === certificate && place.path === path);
      const last = this.#changed.get(changeOf(target, path));
      return (
        (status?.state === 'in sync' || status?.state === 'unverified') &&
        status.generation === awaited.get(certificate) &&
        last !== undefined &&
        last.generation === status.generation &&
        last.atMs >= sinceMs &&
        isDeepStrictEqual(last.host, target.host)
      );
    };
    const concerned = target.deployments.filter(({ certificate }) => awaited.has(certificate));
    if (concerned.length === 0 || !concerned.every(brought)) return undefined;
    return places.map((status) => {
      const action = this.doneTo(target, status, 'left', sinceMs);
      return resultOf(target, status, action, isInSync(status.state) === true);
    });
  }

  #logOf({ pool, host }: Target): Logger {
    return this.#deps.log.child({ pool: pool.name, host: host.name });
  }
}

const changeOf = (target: Target, path: string): string => `${idOf(target)} ${path}`;

/** In the words of a command. */
export function resultOf(
  { pool, host }: Target,
  { certificate, path, reason, failure }: PlaceStatus,
  action: PlaceResult['action'],
  inSync: boolean,
): PlaceResult {
  return { pool: pool.name, host: host.name, certificate, path, action, inSync, reason, failure };
}

/** What it means for a place that its host cannot be looked at. */
const STATES: Readonly<Partial<Record<ErrorCode, PlaceState>>> = {
  ERR_HOST_UNREACHABLE: 'unreachable',
  ERR_HOST_KEY_UNKNOWN: 'awaiting pin',
};

function unknownStatus({ pool, host, deployments }: Target): HostStatus {
  return {
    pool: pool.name,
    host: host.name,
    reachable: undefined,
    haproxyVersion: undefined,
    observedAt: undefined,
    places: deployments.map(({ certificate, path }) => ({
      certificate,
      path,
      generation: undefined,
      state: 'unknown',
      reason: 'not looked at yet',
      failure: undefined,
    })),
  };
}
