import type { DeploymentSpec } from '../domain/model.ts';
import type { HostObservation } from '../domain/observation.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { idOf, type Target } from './host-journal.ts';

/**
 * Sweeps what interrupted changes left on hosts. Only a kacme that died, or lost its connection in the middle of a
 * change, leaves anything: so each place is swept once per mandate, and again after a change that could not clean up.
 */
export class Leftovers {
  readonly #deps: Pick<AppDeps, 'hosts' | 'log'>;
  /** The epoch of the mandate under which a place was swept last. */
  readonly #swept = new Map<string, number>();

  constructor(deps: Pick<AppDeps, 'hosts' | 'log'>) {
    this.#deps = deps;
  }

  /** A change of this place may have left something. */
  expect(target: Target, deployment: DeploymentSpec): void {
    this.#swept.delete(keyOf(target, deployment));
  }

  /** Whether nothing of an interrupted change can lie there. */
  isSwept(target: Target, deployment: DeploymentSpec, { mandate }: EffectOptions): boolean {
    return this.#swept.get(keyOf(target, deployment)) === mandate.epoch;
  }

  /** For places that are in sync: what is kept of before is worth nothing there. Throws only when aborted. */
  async sweep(target: Target, inSync: readonly DeploymentSpec[], options: EffectOptions): Promise<void> {
    const { epoch } = options.mandate;
    const due = inSync.filter((deployment) => !this.isSwept(target, deployment, options));
    if (due.length === 0) return;
    const { pool, host } = target;
    const log = this.#deps.log.child({ pool: pool.name, host: host.name });
    try {
      const paths = await this.#deps.hosts.host(pool, host).sweep(due, options);
      for (const deployment of due) this.#swept.set(keyOf(target, deployment), epoch);
      if (paths.length > 0) log.info({ paths, reason: 'the bundle is in sync' }, 'leftovers removed');
    } catch (error) {
      log.warn({ err: expectedFailure(error, options) }, 'leftovers cannot be removed');
    }
  }

  /** HAProxy has one transaction for all: what nobody commits would be in the way of the next change. */
  async endTransaction(
    { pool, host }: Target,
    { haproxy }: HostObservation,
    options: EffectOptions,
  ): Promise<void> {
    if (haproxy.state !== 'running' || haproxy.pendingTransaction === undefined) return;
    const log = this.#deps.log.child({ pool: pool.name, host: host.name });
    try {
      const path = await this.#deps.hosts.host(pool, host).abortAbandoned(options);
      const reason = 'it stayed the same for longer than any client takes';
      if (path !== undefined) log.warn({ path, reason }, 'abandoned transaction aborted');
    } catch (error) {
      log.warn({ err: expectedFailure(error, options) }, 'abandoned transaction cannot be aborted');
    }
  }
}

const keyOf = (target: Target, { path }: DeploymentSpec): string => `${idOf(target)} ${path}`;
