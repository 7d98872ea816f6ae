import { afterFailedChange, concerns, type FailedChanges } from '../domain/change-pause.ts';
import { reportError } from '../domain/errors.ts';
import { nextOpening } from '../domain/maintenance-window.ts';
import type { DeploymentSpec } from '../domain/model.ts';
import type { Means, ReloadOption } from '../domain/place-decision.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { idOf, type Target } from './host-journal.ts';
import { loadRecord, pauseRecord } from './records.ts';

/** What failed is written although the work it belongs to is cancelled. */
const WRITTEN_WITHIN_MS = 5_000;

/**
 * Whether a host may be changed for a place now. A change that HAProxy failed is repeated further and further apart, not at
 * every look; the pauses are in the store, so that a kacme that is restarted over and over does not disturb it each time.
 */
export class ChangePauses {
  readonly #deps: Pick<AppDeps, 'store' | 'clock' | 'random' | 'log'>;
  /** As stored; read once for each place. */
  readonly #known = new Map<string, FailedChanges | undefined>();

  constructor(deps: Pick<AppDeps, 'store' | 'clock' | 'random' | 'log'>) {
    this.#deps = deps;
  }

  /** Whether a reload may be made at this time of the day. */
  reload({ pool: { reload, maintenanceWindow } }: Target): ReloadOption {
    if (reload === undefined) return { state: 'impossible' };
    const opening = maintenanceWindow && nextOpening(maintenanceWindow, this.#deps.clock.now());
    if (opening === undefined) return { state: 'possible' };
    return { state: 'waits', reason: `waits for the maintenance window until ${opening.toISOString()}` };
  }

  /** Resolves to undefined when the place may be changed now. */
  async of(
    target: Target,
    deployment: DeploymentSpec,
    generation: number,
    options: { signal: AbortSignal },
  ): Promise<FailedChanges | undefined> {
    const changes = await this.#load(target, deployment, options);
    if (changes === undefined || !concerns(changes, generation)) return undefined;
    return this.#deps.clock.now() < changes.until ? changes : undefined;
  }

  /** Resolves to when the next attempt is made; undefined: at the next look. */
  async failed(
    target: Target,
    deployment: DeploymentSpec,
    { error, ...change }: { readonly error: unknown; readonly means: Means; readonly generation: number },
    options: EffectOptions,
  ): Promise<Date | undefined> {
    const { clock, random } = this.#deps;
    const before = this.#known.get(keyOf(target, deployment));
    const now = clock.now();
    const changes = afterFailedChange(
      before,
      { ...change, failure: reportError(error) },
      now,
      random.uniform(),
    );
    if (changes === undefined) return undefined;
    await this.#save(target, deployment, changes, options);
    return now < changes.until ? changes.until : undefined;
  }

  helped(target: Target, deployment: DeploymentSpec, options: EffectOptions): Promise<void> {
    return this.#save(target, deployment, undefined, options);
  }

  /** Whatever failed there may be different now: an operator says so, or the host was away. */
  async end(targets: readonly Target[], options: EffectOptions): Promise<void> {
    const now = this.#deps.clock.now();
    await Promise.all(
      targets.flatMap((target) =>
        target.deployments.map(async (deployment) => {
          const changes = this.#known.get(keyOf(target, deployment));
          if (changes !== undefined && now < changes.until)
            await this.#save(target, deployment, { ...changes, until: now }, options);
        }),
      ),
    );
  }

  /** So that `end` knows of pauses from before a restart. */
  async recall(targets: readonly Target[], options: { signal: AbortSignal }): Promise<void> {
    await Promise.all(
      targets.flatMap((target) =>
        target.deployments.map((deployment) => this.#load(target, deployment, options)),
      ),
    );
  }

  async #load(
    target: Target,
    deployment: DeploymentSpec,
    options: { signal: AbortSignal },
  ): Promise<FailedChanges | undefined> {
    const key = keyOf(target, deployment);
    if (this.#known.has(key)) return this.#known.get(key);
    const changes = await this.#stored(target, key, options);
    this.#known.set(key, changes);
    return changes;
  }

  /** A pause only spares a host: one that cannot be read must not keep its place from its bundle. */
  async #stored(
    target: Target,
    place: string,
    options: { signal: AbortSignal },
  ): Promise<FailedChanges | undefined> {
    const { store, log } = this.#deps;
    try {
      return (await loadRecord(store, pauseRecord, [target.pool.name, place], options))?.value;
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CORRUPT') throw error;
      log.warn({ err: error, place, reason: 'it counts as none' }, 'pause cannot be read');
      return undefined;
    }
  }

  /** What cannot be stored counts in this process all the same. */
  async #save(
    target: Target,
    deployment: DeploymentSpec,
    changes: FailedChanges | undefined,
    { mandate }: EffectOptions,
  ): Promise<void> {
    const id = keyOf(target, deployment);
    if (this.#known.get(id) === undefined && changes === undefined) return;
    this.#known.set(id, changes);
    const { store, log } = this.#deps;
    const key = pauseRecord.key(target.pool.name, id);
    const options = { signal: AbortSignal.timeout(WRITTEN_WITHIN_MS), mandate };
    try {
      const held = await store.get(key, options);
      const puts =
        changes === undefined ? [] : [{ key, value: pauseRecord.serialize({ ...changes, place: id }) }];
      const deletes = changes === undefined ? [key] : [];
      await store.transact({ conditions: [{ key, revision: held?.revision ?? 0 }], puts, deletes }, options);
    } catch (error) {
      log.warn({ err: error, place: id }, 'pause cannot be stored');
    }
  }
}

const keyOf = (target: Target, { path }: DeploymentSpec): string => `${idOf(target)} ${path}`;
