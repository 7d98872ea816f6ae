import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { HostTrial } from '../domain/host-check.ts';
import { Lane } from '../domain/lane.ts';
import type { DeploymentSpec, HostSpec, PoolSpec } from '../domain/model.ts';
import type { HostObservation } from '../domain/observation.ts';
import { scopedSignal } from '../domain/scoped-signal.ts';
import type { Clock } from '../ports/clock.ts';
import type {
  AppliedChange,
  HaproxyHost,
  HaproxyHosts,
  HostChange,
  ReloadCheck,
  ReloadOutcome,
  Verification,
  VerificationRequest,
} from '../ports/haproxy-host.ts';
import type { HostSession, OpenHostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { applyChange } from './apply.ts';
import { FileMemory } from './file-memory.ts';
import { readHostFile } from './host-file.ts';
import { KnownContents } from './known-contents.ts';
import { sweepLeftovers } from './leftovers.ts';
import { type HostView, observeHost, runtimeOf } from './observe.ts';
import { rehearse } from './rehearsal.ts';
import type { RunLocally } from './reload.ts';
import { reloadHost } from './reload-host.ts';
import { TransactionWatch } from './transaction-watch.ts';
import { verifyHandshakes } from './verify.ts';

export interface HaproxyHostsOptions {
  readonly openSession: OpenHostSession;
  readonly runLocally: RunLocally;
  readonly clock: Clock;
  readonly log: Logger;
}

const NEVER = { signal: new AbortController().signal };

/** The hosts of all pools. A host whose configuration changed gets a new object and a new connection. */
export function createHaproxyHosts(options: HaproxyHostsOptions): HaproxyHosts {
  const contents = new KnownContents();
  const hosts = new Map<string, RemoteHaproxyHost>();
  /** Undefined: all of them. */
  let retained: ReadonlySet<string> | undefined;
  /**
   * By the way in, not by pool or socket: the same process may stand in two pools under two names. A lock is never
   * given up, since nobody may get a second one while somebody still waits for the first.
   */
  const locks = new Map<string, Lane>();
  const retiring = new Set<Promise<void>>();

  const lockOf = (pool: PoolSpec, host: HostSpec): Lane => {
    const key = pool.ssh === undefined ? 'local' : `${host.address} ${host.port}`;
    const lock = locks.get(key) ?? new Lane(1);
    locks.set(key, lock);
    return lock;
  };
  const retire = (host: RemoteHaproxyHost): void => {
    const closing = host.retire().finally(() => retiring.delete(closing));
    retiring.add(closing);
  };

  return {
    host: (pool, host) => {
      const key = keyOf(pool, host);
      const existing = hosts.get(key);
      if (existing?.describes(pool, host)) return existing;
      if (existing !== undefined) retire(existing);
      const created = new RemoteHaproxyHost(pool, host, { ...options, lock: lockOf(pool, host), contents });
      hosts.set(key, created);
      if (retained?.has(key) === false) retire(created);
      return created;
    },
    retain: (wanted) => {
      retained = new Set(wanted.map(({ pool, host }) => keyOf(pool, host)));
      for (const [key, host] of hosts) {
        if (retained.has(key) && !host.isRetired) continue;
        hosts.delete(key);
        retire(host);
      }
    },
    close: async () => {
      await Promise.all([...retiring, ...Array.from(hosts.values(), (host) => host.retire())]);
    },
  };
}

const keyOf = (pool: PoolSpec, host: HostSpec): string => `${pool.name}/${host.name}`;

interface RemoteHostOptions extends HaproxyHostsOptions {
  readonly lock: Lane;
  readonly contents: KnownContents;
}

class RemoteHaproxyHost implements HaproxyHost {
  readonly pool: PoolSpec;
  readonly host: HostSpec;
  readonly #label: string;
  readonly #lock: Lane;
  readonly #options: RemoteHostOptions;
  readonly #watch: TransactionWatch;
  readonly #log: Logger;
  #session: HostSession | undefined;
  /** Of this session. */
  #files: FileMemory;
  #retired = false;

  constructor(pool: PoolSpec, host: HostSpec, options: RemoteHostOptions) {
    this.pool = pool;
    this.host = host;
    this.#label = keyOf(pool, host);
    this.#lock = options.lock;
    this.#options = options;
    this.#watch = new TransactionWatch(options.clock);
    this.#files = new FileMemory(options.contents, options.clock);
    this.#log = options.log.child({ pool: pool.name, host: host.name });
  }

  describes(pool: PoolSpec, host: HostSpec): boolean {
    return (
      (this.pool === pool && this.host === host) ||
      (isDeepStrictEqual(withoutHosts(this.pool), withoutHosts(pool)) && isDeepStrictEqual(this.host, host))
    );
  }

  observe(
    deployments: readonly DeploymentSpec[],
    { signal }: { signal: AbortSignal },
  ): Promise<HostObservation> {
    return this.#run(
      async () => {
        const view = await this.#view({ signal });
        const observation = await observeHost(view, this.#files, deployments, { signal });
        if (observation.haproxy.state === 'running') {
          await this.#watch.look(runtimeOf(view), observation.haproxy.pendingTransaction, { signal });
        }
        return observation;
      },
      { signal },
    );
  }

  apply(change: HostChange, options: EffectOptions): Promise<AppliedChange> {
    return this.#run(() => this.#apply(change, options), options);
  }

  verify(request: VerificationRequest, { signal }: { signal: AbortSignal }): Promise<Verification> {
    return this.#run(
      async () => {
        const { verify } = this.pool;
        const overSsh = verify.connect.length > 0 && (verify.through ?? 'direct') !== 'direct';
        const session = overSsh ? await this.#open({ signal }) : undefined;
        return verifyHandshakes(verify, this.host, request, { signal, session });
      },
      { signal },
    );
  }

  readBundle(file: string, { signal }: { signal: AbortSignal }): Promise<string | undefined> {
    return this.#run(
      async () => {
        const { session } = await this.#view({ signal });
        return (await readHostFile(session, this.#label, file, { signal }))?.content.toString('utf8');
      },
      { signal },
    );
  }

  rehearse(deployments: readonly DeploymentSpec[], options: EffectOptions): Promise<HostTrial> {
    return this.#run(async () => rehearse(await this.#view(options), deployments, options), options);
  }

  reload(checks: readonly ReloadCheck[], options: EffectOptions): Promise<ReloadOutcome> {
    return this.#run(async () => {
      const view = await this.#view(options);
      const { runLocally } = this.#options;
      return reloadHost({ view, host: this.host, runLocally }, checks, options);
    }, options);
  }

  sweep(deployments: readonly DeploymentSpec[], options: EffectOptions): Promise<readonly string[]> {
    return this.#run(
      async () => sweepLeftovers((await this.#view(options)).session, deployments, options),
      options,
    );
  }

  abortAbandoned(options: EffectOptions): Promise<string | undefined> {
    return this.#run(async () => {
      const runtime = runtimeOf(await this.#view(options));
      const { pending } = await runtime.look([], options);
      const sighting = await this.#watch.look(runtime, pending, options);
      if (sighting?.abandoned !== true) return undefined;
      return (await runtime.abort(sighting.path, options)) ? sighting.path : undefined;
    }, options);
  }

  get isRetired(): boolean {
    return this.#retired;
  }

  /** Resolves when the connection is closed; from now on there is none but during a call. Never rejects. */
  retire(): Promise<void> {
    this.#retired = true;
    return this.#lock.run(() => this.#disconnect(), NEVER);
  }

  #run<T>(task: () => Promise<T>, { signal }: { signal: AbortSignal }): Promise<T> {
    return this.#lock.run(
      async () => {
        try {
          return await task();
        } finally {
          if (this.#retired) await this.#disconnect();
        }
      },
      { signal },
    );
  }

  async #disconnect(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    try {
      await session?.close();
    } catch (err) {
      this.#log.warn({ err }, 'connection could not be closed');
    }
  }

  async #apply(change: HostChange, { signal, mandate }: EffectOptions): Promise<AppliedChange> {
    const { clock } = this.#options;
    const log = this.#log;
    const startMs = clock.monotonicMs();
    const result = (outcome: object) => ({
      path: change.deployment.path,
      fingerprint256: change.fingerprint256,
      durationMs: Math.round(clock.monotonicMs() - startMs),
      ...outcome,
    });
    // A mandate that is lost ends every wait at once.
    using ended = scopedSignal(signal, mandate.signal);
    try {
      const applied = await applyChange(
        change,
        {
          view: await this.#view({ signal: ended.signal }),
          host: this.host,
          runLocally: this.#options.runLocally,
          watch: this.#watch,
          files: this.#files,
          log,
          reopen: (options) => this.#open(options),
        },
        { signal: ended.signal, mandate },
      );
      log.info(result({ verification: applied.verification }), 'host changed');
      return applied;
    } catch (error) {
      log.info(result({ err: error }), 'host not changed');
      throw error;
    }
  }

  async #view({ signal }: { signal: AbortSignal }): Promise<HostView> {
    const session = await this.#open({ signal });
    return { label: this.#label, pool: this.pool, session, clock: this.#options.clock };
  }

  /** The open session, or a new one when there is none or it is gone. */
  async #open({ signal }: { signal: AbortSignal }): Promise<HostSession> {
    if (this.#session === undefined || this.#session.closed.aborted) {
      this.#session = await this.#options.openSession(this.pool, this.host, { signal });
      const { contents, clock } = this.#options;
      this.#files = new FileMemory(contents, clock);
    }
    return this.#session;
  }
}

/** What a host's connection depends on: not on which other hosts its pool has. */
function withoutHosts(pool: PoolSpec): Omit<PoolSpec, 'hosts'> {
  const { hosts: _, ...rest } = pool;
  return rest;
}
