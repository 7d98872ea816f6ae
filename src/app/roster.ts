import { isDeepStrictEqual } from 'node:util';
import {
  type Arrangement,
  afterAnswer,
  arrangePools,
  describeSource,
  lookEveryMs,
  type Member,
} from '../domain/discovery.ts';
import { type KacmeError, reportError } from '../domain/errors.ts';
import type { DiscoverySpec, HostSpec, KacmeConfig, PoolSpec } from '../domain/model.ts';
import type { DiscoveryStatus } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { Mandate } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { loadRecord, rosterRecord } from './records.ts';
import { SingleFlight } from './single-flight.ts';

/** A pool whose hosts are learned. */
export type DiscoveredPool = PoolSpec & { readonly discovery: DiscoverySpec };

interface LookOptions {
  readonly signal: AbortSignal;
  /** Without it nothing is stored. */
  readonly mandate: Mandate | undefined;
}

/** What is known of one discovered pool. */
interface Page {
  members: readonly Member[];
  stored: readonly Member[];
  /** Of the record; undefined when what is there does not count: damaged, or from another configuration. */
  revision: number | undefined;
  answeredAt: Date | undefined;
  doubts: readonly string[];
  failure: DiscoveryStatus['failure'];
  looked: boolean;
}

type RosterDeps = Pick<AppDeps, 'store' | 'directory' | 'clock' | 'log'>;

/**
 * The present hosts of every pool: those that are listed, and those that a source names. The last known ones are in the
 * store, so that a restart while the source is silent loses nobody.
 */
export class Roster {
  /** Whose hosts are learned. */
  readonly discovered: readonly DiscoveredPool[];
  readonly #pools: readonly PoolSpec[];
  readonly #deps: RosterDeps;
  readonly #onChange: () => void;
  readonly #pages: ReadonlyMap<string, Page>;
  readonly #looks = new SingleFlight<void>();
  #restoring: Promise<unknown> | undefined;
  #arranged: ReadonlyMap<string, Arrangement>;

  /** `onChange` is called when a host has come, gone, or moved to another address. */
  constructor({ pools }: Pick<KacmeConfig, 'pools'>, deps: RosterDeps, onChange: () => void) {
    this.#pools = Object.values(pools);
    this.#deps = deps;
    this.#onChange = onChange;
    this.discovered = this.#pools.filter(isDiscovered);
    this.#pages = new Map(this.discovered.map(({ name }) => [name, blankPage()]));
    this.#arranged = this.#arrange();
  }

  hostsOf(pool: PoolSpec): readonly HostSpec[] {
    return this.#arranged.get(pool.name)?.hosts ?? [];
  }

  /** Whether the last look gave no answer. */
  failing(pool: DiscoveredPool): boolean {
    return this.#page(pool).failure !== undefined;
  }

  statuses(): readonly DiscoveryStatus[] {
    return this.discovered.map((pool): DiscoveryStatus => {
      const { members, answeredAt, doubts, failure } = this.#page(pool);
      const { hosts = [], leftOut = [] } = this.#arranged.get(pool.name) ?? {};
      return {
        pool: pool.name,
        source: describeSource(pool.discovery),
        hosts: hosts.length,
        answeredAt: answeredAt?.toISOString(),
        missing: members.filter(({ missingSince }) => missingSince !== undefined).map(({ name }) => name),
        leftOut,
        doubts,
        failure,
      };
    });
  }

  /** The last known hosts, from the store. A damaged record is as none. */
  restore(options: { signal: AbortSignal }): Promise<unknown> {
    this.#restoring ??= waitForAll(this.discovered.map((pool) => this.#restore(pool, options))).then(
      () => {
        this.#arranged = this.#arrange();
      },
      (error: unknown) => {
        this.#restoring = undefined;
        throw error;
      },
    );
    return this.#restoring;
  }

  /** Every source has been looked at in this process. What fails is in `statuses`. */
  async ensure(options: LookOptions): Promise<void> {
    const missing = this.discovered.filter((pool) => !this.#page(pool).looked);
    await waitForAll(missing.map((pool) => this.look(pool, options)));
  }

  /** Asks the source of one pool. Throws only what ends everything: a cancellation, a lost mandate. */
  async look(pool: DiscoveredPool, { signal, mandate }: LookOptions): Promise<void> {
    await this.restore({ signal });
    await this.#looks.run(pool.name, (own) => this.#look(pool, { ...own, mandate }), { signal });
  }

  async #look(pool: DiscoveredPool, options: LookOptions): Promise<void> {
    const { directory, clock, log } = this.#deps;
    const page = this.#page(pool);
    try {
      const answer = await directory.hosts(pool.discovery, options);
      const now = clock.now();
      page.members = afterAnswer(page.members, answer, { now, everyMs: lookEveryMs(pool.discovery) });
      page.answeredAt = now;
      if (page.failure !== undefined)
        log.info({ pool: pool.name, hosts: answer.hosts.length }, 'hosts can be learned again');
      page.failure = undefined;
      this.#note(pool, answer.doubts);
    } catch (error) {
      this.#noteFailure(pool, expectedFailure(error, options));
    }
    page.looked = true;
    this.#rearrange();
    if (options.mandate !== undefined) await this.#save(pool, { ...options, mandate: options.mandate });
  }

  #note(pool: DiscoveredPool, doubts: readonly string[]): void {
    const page = this.#page(pool);
    if (doubts.length > 0 && !isDeepStrictEqual(doubts, page.doubts))
      this.#deps.log.warn({ pool: pool.name, doubts }, 'hosts are learned in part; nobody is let go for it');
    page.doubts = doubts;
  }

  #noteFailure(pool: DiscoveredPool, error: KacmeError): void {
    const page = this.#page(pool);
    const repeated = page.failure?.message === error.message;
    const fields = { pool: pool.name, err: error, hosts: page.members.length };
    this.#deps.log[repeated ? 'debug' : 'warn'](fields, 'hosts cannot be learned; those known stay');
    const since = page.failure?.since ?? this.#deps.clock.now().toISOString();
    page.failure = { ...reportError(error), since };
  }

  /** Of all pools at once: what leaves one may be another's. */
  #rearrange(): void {
    const before = this.#arranged;
    this.#arranged = this.#arrange();
    if (isDeepStrictEqual(before, this.#arranged)) return;
    for (const { name: pool } of this.discovered) {
      const [was, is] = [before.get(pool), this.#arranged.get(pool)];
      const { log } = this.#deps;
      for (const { name, address, port } of is?.hosts ?? [])
        if (!was?.hosts.some((host) => host.name === name))
          log.info({ pool, host: name, address, port }, 'host joins the pool');
      for (const { name } of was?.hosts ?? [])
        if (!is?.hosts.some((host) => host.name === name))
          log.info({ pool, host: name }, 'host leaves the pool');
      for (const { name, reason } of is?.leftOut ?? [])
        if (!was?.leftOut.some((host) => host.name === name))
          log.warn({ pool, host: name, reason }, 'discovered host is left out');
    }
    this.#onChange();
  }

  #arrange(): ReadonlyMap<string, Arrangement> {
    return arrangePools(this.#pools, ({ name }) => this.#pages.get(name)?.members ?? []);
  }

  async #restore(pool: DiscoveredPool, options: { signal: AbortSignal }): Promise<void> {
    const page = this.#page(pool);
    try {
      const held = await loadRecord(this.#deps.store, rosterRecord, pool.name, options);
      page.revision = held?.revision ?? 0;
      // Whoever asks elsewhere now does not mean those who were named there.
      if (held?.value.source !== describeSource(pool.discovery)) return;
      page.members = held.value.hosts;
      page.stored = page.members;
    } catch (error) {
      page.revision = undefined;
      const err = expectedFailure(error, options);
      this.#deps.log.error({ err, pool: pool.name }, 'the hosts last known cannot be read');
    }
  }

  /** What cannot be stored is tried again at the next look; the hosts are served all the same. */
  async #save(pool: DiscoveredPool, options: { signal: AbortSignal; mandate: Mandate }): Promise<void> {
    const page = this.#page(pool);
    const { members } = page;
    if (isDeepStrictEqual(members, page.stored)) return;
    const key = rosterRecord.key(pool.name);
    const value = rosterRecord.serialize({ source: describeSource(pool.discovery), hosts: members });
    const conditions = page.revision === undefined ? [] : [{ key, revision: page.revision }];
    try {
      page.revision = await this.#deps.store.transact(
        { conditions, puts: [{ key, value }], deletes: [] },
        options,
      );
      page.stored = members;
    } catch (error) {
      page.revision = undefined;
      const err = expectedFailure(error, options);
      this.#deps.log.error({ err, pool: pool.name }, 'the hosts of the pool cannot be stored');
    }
  }

  #page({ name }: PoolSpec): Page {
    const page = this.#pages.get(name);
    if (page === undefined) throw new RangeError(`the hosts of ${name} are not discovered`);
    return page;
  }
}

const isDiscovered = (pool: PoolSpec): pool is DiscoveredPool => pool.discovery !== undefined;

const blankPage = (): Page => ({
  members: [],
  stored: [],
  revision: 0,
  answeredAt: undefined,
  doubts: [],
  failure: undefined,
  looked: false,
});
