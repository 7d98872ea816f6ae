import { backoffUntil } from '../domain/backoff.ts';
import type { ErrorReport } from '../domain/errors.ts';
import { Lane } from '../domain/lane.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { loadRecord, type RolloutRecord, rolloutRecord } from './records.ts';
import { unlessAborted } from './single-flight.ts';

/** Says how the canary fared; the first report counts. */
export interface Canary {
  /** The new bundle works there: the other hosts may follow. */
  proven(): Promise<void>;
  /** It failed for a reason of the host's own (unreachable, disk full): another host goes first. Void after any report. */
  passOn(): void;
  /** The bundle itself is in doubt: nobody follows until `until`, then a canary tries again. */
  halt(failure: ErrorReport): Promise<{ until: Date }>;
}

/** A host that comes after the canary says how it fared, when HAProxy took part. */
export interface Follower {
  proven(): Promise<void>;
  /** The bundle is not what it presents. The `stopAfter`th host at once that says so halts the rollout for the others. */
  doubt(failure: ErrorReport, stopAfter: number): Promise<void>;
}

/** A newer generation is being rolled out: what was decided for this one is void. */
interface Superseded {
  readonly kind: 'superseded';
}

export type Turn =
  | { readonly kind: 'follow'; readonly follower: Follower }
  | { readonly kind: 'lead'; readonly canary: Canary }
  | Superseded
  | Halted;

/** `alone`: a change of files, which neither leads nor follows. */
export type ChangeTurn = Turn | { readonly kind: 'alone' };

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
  /** Its record is written by one at a time. */
  readonly writing: Lane;
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
      if (rollout.record.provenOn !== undefined)
        return { kind: 'follow', follower: this.#follow(rollout, id, host, options) };
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
  async withoutLeading(
    id: RolloutId,
    options: EffectOptions,
  ): Promise<Exclude<ChangeTurn, { kind: 'lead' | 'follow' }>> {
    return this.#obstacle(await this.#rollout(id, options), id) ?? { kind: 'alone' };
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
    await this.#save(rollout, id, (record) => ({ ...record, halted: { ...halted, until } }), options);
    this.#deps.log.info({ ...id, reason: 'asked for by an operator' }, 'rollout resumed');
  }

  #obstacle({ record }: Rollout, { generation }: RolloutId): Halted | Superseded | undefined {
    if (record.generation !== generation) return { kind: 'superseded' };
    const { halted } = record;
    if (halted === undefined || this.#deps.clock.now() >= new Date(halted.until)) return undefined;
    const { host, failure, until } = halted;
    return { kind: 'halted', host, failure, until: new Date(until) };
  }

  #lead(rollout: Rollout, id: RolloutId, host: string, options: EffectOptions): Canary {
    let report: () => void = () => {};
    const leading = new Promise<void>((resolve) => {
      report = resolve;
    });
    rollout.leading = leading;
    const end = () => {
      if (rollout.leading === leading) rollout.leading = undefined;
      report();
    };
    this.#deps.log.info({ ...id, host }, 'canary chosen');
    const finish = async (next: (record: RolloutRecord) => RolloutRecord) => {
      try {
        await this.#save(rollout, id, next, options);
      } finally {
        end();
      }
    };
    return {
      proven: () => finish((record) => ({ ...record, provenOn: host, halted: undefined, unverifiedOn: [] })),
      passOn: end,
      halt: async (failure) => {
        const halted = this.#halt(rollout, id, host, failure);
        await finish(() => halted);
        return { until: new Date(halted.halted.until) };
      },
    };
  }

  #follow(rollout: Rollout, id: RolloutId, host: string, options: EffectOptions): Follower {
    return {
      proven: async () => {
        if (!rollout.record.unverifiedOn.includes(host)) return;
        const without = (hosts: readonly string[]) => hosts.filter((other) => other !== host);
        const next = (record: RolloutRecord) => ({ ...record, unverifiedOn: without(record.unverifiedOn) });
        await this.#save(rollout, id, next, options);
      },
      doubt: async (failure, stopAfter) => {
        // Whoever was under way when it halted adds nothing.
        const changes = ({ provenOn, unverifiedOn }: RolloutRecord) =>
          provenOn !== undefined && !unverifiedOn.includes(host);
        if (!changes(rollout.record)) return;
        const next = (record: RolloutRecord): RolloutRecord => {
          if (!changes(record)) return record;
          const unverifiedOn = [...record.unverifiedOn, host];
          return unverifiedOn.length < stopAfter
            ? { ...record, unverifiedOn }
            : this.#halt(rollout, id, host, failure, unverifiedOn);
        };
        await this.#save(rollout, id, next, options);
      },
    };
  }

  #halt(
    { record }: Rollout,
    id: RolloutId,
    host: string,
    failure: ErrorReport,
    unverifiedOn: readonly string[] = [host],
  ): RolloutRecord & { readonly halted: { readonly until: string } } {
    const { log, clock, random } = this.#deps;
    const halts = record.halts + 1;
    const now = clock.now();
    const until = backoffUntil(halts, now, random.uniform());
    log.error({ ...id, host, unverifiedOn, reason: failure.message, until }, 'rollout halted');
    return {
      generation: id.generation,
      provenOn: undefined,
      halted: { host, failure, at: now.toISOString(), until: until.toISOString() },
      halts,
      unverifiedOn: [],
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
    const record: RolloutRecord =
      held?.value.generation === generation
        ? held.value
        : { generation, provenOn: undefined, halted: undefined, halts: 0, unverifiedOn: [] };
    return { record, revision: held?.revision ?? 0, writing: new Lane(1), leading: undefined };
  }

  /** Whatever stops the caller, the record is written, within a bounded time. */
  async #save(
    rollout: Rollout,
    { pool, certificate, generation }: RolloutId,
    next: (record: RolloutRecord) => RolloutRecord,
    { mandate }: EffectOptions,
  ): Promise<void> {
    const key = rolloutRecord.key(pool, certificate);
    const options = { signal: AbortSignal.timeout(5_000), mandate };
    const write = async () => {
      const record = next(rollout.record);
      const superseded = (this.#rollouts.get(`${pool}/${certificate}`)?.generation ?? 0) > generation;
      if (record === rollout.record || superseded) return;
      rollout.revision = await this.#deps.store.transact(
        {
          conditions: [{ key, revision: rollout.revision }],
          puts: [{ key, value: rolloutRecord.serialize(record) }],
          deletes: [],
        },
        options,
      );
      rollout.record = record;
    };
    try {
      await rollout.writing.run(write, options);
    } catch (error) {
      // Perhaps somebody else wrote it: read it again.
      this.#rollouts.delete(`${pool}/${certificate}`);
      throw error;
    }
  }
}
