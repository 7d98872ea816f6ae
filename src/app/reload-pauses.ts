import { backoffUntil } from '../domain/backoff.ts';
import { reportError } from '../domain/errors.ts';
import { nextOpening } from '../domain/maintenance-window.ts';
import type { DeploymentSpec } from '../domain/model.ts';
import type { ReloadOption } from '../domain/place-decision.ts';
import type { AppDeps } from './deps.ts';
import { idOf, type Target } from './host-journal.ts';

interface Pause {
  readonly failures: number;
  readonly until: Date;
  readonly reason: string;
}

/**
 * Whether a host may be reloaded for a place now. A reload that failed, or did not help, is repeated further and
 * further apart, not at every look: each costs a worker process and idle connections. A restart of kacme forgets it.
 */
export class ReloadPauses {
  readonly #deps: Pick<AppDeps, 'clock' | 'random'>;
  readonly #pauses = new Map<string, Pause>();

  constructor(deps: Pick<AppDeps, 'clock' | 'random'>) {
    this.#deps = deps;
  }

  option(target: Target, deployment: DeploymentSpec): ReloadOption {
    if (target.pool.reload === undefined) return { state: 'impossible' };
    const opening =
      target.pool.maintenanceWindow && nextOpening(target.pool.maintenanceWindow, this.#deps.clock.now());
    if (opening !== undefined) {
      return { state: 'waits', reason: `waits for the maintenance window until ${opening.toISOString()}` };
    }
    const pause = this.#pauses.get(keyOf(target, deployment));
    if (pause === undefined || this.#deps.clock.now() >= pause.until) return { state: 'possible' };
    const until = pause.until.toISOString();
    return {
      state: 'waits',
      reason: `the last reload did not help, the next is at ${until}: ${pause.reason}`,
    };
  }

  failed(target: Target, deployment: DeploymentSpec, error: unknown): void {
    const { clock, random } = this.#deps;
    const key = keyOf(target, deployment);
    const failures = (this.#pauses.get(key)?.failures ?? 0) + 1;
    const until = backoffUntil(failures, clock.now(), random.uniform());
    this.#pauses.set(key, { failures, until, reason: reportError(error).message });
  }

  helped(target: Target, deployment: DeploymentSpec): void {
    this.#pauses.delete(keyOf(target, deployment));
  }

  /** An operator wants them to be tried now. */
  end(targets: readonly Target[]): void {
    for (const target of targets)
      for (const deployment of target.deployments) this.#pauses.delete(keyOf(target, deployment));
  }
}

const keyOf = (target: Target, { path }: DeploymentSpec): string => `${idOf(target)} ${path}`;
