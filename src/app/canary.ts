import { backoffUntil } from '../domain/backoff.ts';
import type { ErrorReport } from '../domain/errors.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { loadRecord, type RolloutRecord, rolloutRecord } from './records.ts';
import { unlessAborted } from './single-flight.ts';

/** Says how the canary fared; exactly one of these is called. */
export interface Canary {
  /** The new bundle works there: the other hosts may follow. */
  proven(): Promise<void>;
  /** It failed for a reason of the host's own (unreachable, disk full): another host goes first. */
  passOn(): void;
  /** The bundle itself is in doubt: nobody follows until `until`, then a canary tries again. */
  halt(failure: ErrorReport): Promise<{ until: Date }>;
}

export type Turn =
  /** A newer generation is being rolled out: what was decided for this one is void. */
  | { readonly kind: 'superseded' }
  | { readonly kind: 'follow' }
  | { readonly kind: 'lead'; readonly canary: Canary }
  | Halted;

/** Why nobody follows, and until when. */
export interface Halted {
  readonly kind: 'halted';
  /** Whose change failed. */
  readonly host: string;
  readonly failure: ErrorReport;
  readonly until: Date;
}

export interface RolloutName {
  readonly pool: string;
  readonly certificate: string;
}

export interface RolloutId extends RolloutName {
  readonly generation: number;
}

interface Rollout {
  record: RolloutRecord;
  revision: number;
  /** Settles when the present canary has reported. */
  leading: Promise<void> | undefined;
}

/** Lets one host of a pool go first with each generation of a certificate. */
export class CanaryGate {
  readonly #deps: Pick<AppDeps, 'store' | 'clock' | 'random' | 'log'>;
  readonly #rollouts = new Map<string, { readonly generation: number; readonly rollout: Promise<Rollout> }>();

  constructor(deps: Pick<AppDeps, 'store' | 'clock' | 'random' | 'log'>) {
    this.#deps = deps;
  }

  /** For a change that HAProxy's memory takes part in. Waits while another host is the canary. */
  async turn(id: RolloutId, host: string, options: EffectOptions): Promise<Turn> {
    for (;;) {
      const rollout = await this.#rollout(id, options);
      const obstacle = this.#obstacle(rollout, id);
      if (obstacle !== undefined) return obstacle;
      if (rollout.record.provenOn !== undefined) return { kind: 'follow' };
      if (rollout.leading === undefined)
        return { kind: 'lead', canary: this.#lead(rollout, id, host, options) };
      await unlessAborted(rollout.leading, options.signal);
    }
  }

  /** Undefined when nothing keeps this change from being made. */
  async halted(id: RolloutId, options: { signal: AbortSignal }): Promise<Halted | undefined> {
    const obstacle = this.#obstacle(await this.#rollout(id, options), id);
    return obstacle?.kind === 'halted' ? obstacle : undefined;
  }

  /** For a change of files alone: it proves nothing to other hosts, so it neither leads nor waits. */
  async withoutLeading(id: RolloutId, options: EffectOptions): Promise<Exclude<Turn, { kind: 'lead' }>> {
    return this.#obstacle(await this.#rollout(id, options), id) ?? { kind: 'follow' };
  }

  /** Ends the pause of a halted rollout; if it halts again, the next pause is the longer one all the same. */
  async resume({ pool, certificate }: RolloutName, options: EffectOptions): Promise<void> {
    const held = await loadRecord(this.#deps.store, rolloutRecord, [pool, certificate], options);
    if (held?.value.halted === undefined) return;
    const id = { pool, certificate, generation: held.value.generation };
    const rollout = await this.#rollout(id, options);
    const { halted } = rollout.record;
    if (this.#obstacle(rollout, id)?.kind !== 'halted' || halted === undefined) return;
    const until = this.#deps.clock.now().toISOString();
    await this.#save(rollout, id, { ...rollout.record, halted: { ...halted, until } }, options);
    this.#deps.log.info({ ...id, reason: 'asked for by an operator' }, 'rollout resumed');
  }

  #obstacle(
    { record }: Rollout,
    { generation }: RolloutId,
  ): Halted | Extract<Turn, { kind: 'superseded' }> | undefined {
    if (record.generation !== generation) return { kind: 'superseded' };
    const { halted } = record;
    if (halted === undefined || this.#deps.clock.now() >= new Date(halted.until)) return undefined;
    const { host, failure, until } = halted;
    return { kind: 'halted', host, failure, until: new Date(until) };
  }

  #lead(rollout: Rollout, id: RolloutId, host: string, options: EffectOptions): Canary {
    let report: () => void = () => {};
    rollout.leading = new Promise((resolve) => {
      report = resolve;
    });
    const { log, clock, random } = this.#deps;
    const { generation } = id;
    log.info({ ...id, host }, 'canary chosen');
    const finish = async (record: RolloutRecord) => {
      try {
        await this.#save(rollout, id, record, options);
      } catch (error) {
        // Somebody else wrote it: read it again.
        this.#rollouts.delete(`${id.pool}/${id.certificate}`);
        throw error;
      } finally {
        rollout.leading = undefined;
        report();
      }
    };
    return {
      proven: async () => finish({ generation, provenOn: host, halted: undefined }),
      passOn: () => {
        rollout.leading = undefined;
        report();
      },
      halt: async (failure) => {
        const failures = (rollout.record.halted?.failures ?? 0) + 1;
        const now = clock.now();
        const until = backoffUntil(failures, now, random.uniform());
        log.error({ ...id, host, reason: failure.message, until }, 'rollout halted');
        const halted = {
          host,
          failure,
          at: now.toISOString(),
          until: until.toISOString(),
          failures,
        };
        await finish({ generation, provenOn: undefined, halted });
        return { until };
      },
    };
  }

  /** Kept as a promise, so that hosts that ask at the same time share one rollout. */
  #rollout({ pool, certificate, generation }: RolloutId, options: { signal: AbortSignal }): Promise<Rollout> {
    const id = `${pool}/${certificate}`;
    const known = this.#rollouts.get(id);
    if (known !== undefined && known.generation >= generation) return known.rollout;
    const rollout = this.#load({ pool, certificate, generation }, options);
    this.#rollouts.set(id, { generation, rollout });
    rollout.catch(() => this.#rollouts.delete(id));
    return rollout;
  }

  async #load(
    { pool, certificate, generation }: RolloutId,
    options: { signal: AbortSignal },
  ): Promise<Rollout> {
    const held = await loadRecord(this.#deps.store, rolloutRecord, [pool, certificate], options);
    const record =
      held?.value.generation === generation
        ? held.value
        : { generation, provenOn: undefined, halted: undefined };
    return { record, revision: held?.revision ?? 0, leading: undefined };
  }

  async #save(
    rollout: Rollout,
    { pool, certificate }: RolloutId,
    record: RolloutRecord,
    { mandate }: EffectOptions,
  ): Promise<void> {
    const key = rolloutRecord.key(pool, certificate);
    rollout.revision = await this.#deps.store.transact(
      {
        conditions: [{ key, revision: rollout.revision }],
        puts: [{ key, value: rolloutRecord.serialize(record) }],
        deletes: [],
      },
      { signal: AbortSignal.timeout(5_000), mandate },
    );
    rollout.record = record;
  }
}
