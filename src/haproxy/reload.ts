import { HostError } from '../domain/host-error.ts';
import type { HostSpec, PoolSpec, ReloadSpec } from '../domain/model.ts';
import type { WorkersObservation } from '../domain/observation.ts';
import type { CommandOptions, CommandResult } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { MasterCli } from './master-cli.ts';
import { type HostView, runtimeOf } from './observe.ts';

/** Between two looks at whether the new worker is there. */
const LOOK_EVERY_MS = 50;
/** A new worker answers a moment before the old one has given its listeners up. */
const HANDED_OVER_WITHIN_MS = 5_000;

/** As `HostSession.run`, on the machine of kacme; `host` is what a message begins with. */
export type RunLocally = (
  host: string,
  argv: readonly string[],
  options: CommandOptions,
) => Promise<CommandResult>;

export interface ReloadContext {
  readonly view: HostView;
  readonly host: HostSpec;
  readonly runLocally: RunLocally;
}

/**
 * A seamless reload: a new worker takes the listeners over, the old one serves its connections to the end. Whatever
 * fails before the new one is there leaves the old one at work. Throws `ERR_HAPROXY_RELOAD`, `ERR_HOST_COMMAND`,
 * `ERR_HAPROXY_SOCKET` and `ERR_MANDATE_LOST`.
 */
export class HaproxyReload {
  readonly #view: HostView;
  readonly #host: HostSpec;
  readonly #runLocally: RunLocally;
  readonly #spec: ReloadSpec;
  readonly #master: MasterCli | undefined;

  constructor({ view, host, runLocally }: ReloadContext) {
    this.#view = view;
    this.#host = host;
    this.#runLocally = runLocally;
    this.#spec = specOf(view);
    this.#master = masterOf(view);
  }

  /** Brings the configuration to where HAProxy reads it; resolves at once where the pool has no such command. */
  async prepare(options: EffectOptions): Promise<void> {
    const { prepare } = this.#spec;
    if (prepare !== undefined) await this.#run("prepare HAProxy's configuration", prepare, options);
  }

  /** Asks for the verdict of `reload.validate`; resolves at once where the pool has none. */
  async validate(options: EffectOptions): Promise<void> {
    const { validate } = this.#spec;
    if (validate !== undefined) await this.#run("validate HAProxy's configuration", validate, options);
  }

  /** Resolves when the new worker answers, to the workers there are then: undefined without a master CLI. */
  async reload(options: EffectOptions): Promise<WorkersObservation | undefined> {
    const before = await onceBack(this.#view, () => runtimeOf(this.#view).pid(options), options);
    const processes = await onceBack(this.#view, async () => this.#master?.processes(options), options);
    const failedBefore = processes?.failedReloads;
    await this.#ask(options);
    await this.#untilReplaced(before, failedBefore, options);
    return this.#untilHandedOver(options);
  }

  /** Runs a command of the pool. One that fails is an `ERR_HAPROXY_RELOAD` with what it said last. */
  async #run(step: string, argv: readonly string[], options: EffectOptions): Promise<void> {
    const filled = argv.map((argument) => argument.replaceAll('{host}', this.#host.address));
    const bounded = { ...options, timeoutMs: this.#spec.timeoutMs };
    const { status, output } =
      this.#spec.on === 'host'
        ? await this.#view.session.run(filled, bounded)
        : await this.#runLocally(this.#view.label, filled, bounded);
    if (status === 0) return;
    const how = status === undefined ? 'was ended by a signal' : `ended with status ${status}`;
    const said = output === '' ? ' and said nothing' : `: ${lastWords(output)}`;
    throw this.#failed(step, `${filled[0]} ${how}${said}`, 'run the command by hand on the host');
  }

  async #ask(options: EffectOptions): Promise<void> {
    const { command, timeoutMs } = this.#spec;
    const step = 'reload HAProxy';
    if (command !== undefined) return this.#run(step, command, options);
    if (this.#master === undefined) {
      throw this.#failed(
        step,
        'haproxy.masterSocket is not configured, and no command either',
        `set pools.${this.#view.pool.name}.reload to { command: [...] }`,
      );
    }
    const outcome = await this.#master.reload({ ...options, timeoutMs });
    if (outcome.state === 'failed') throw this.#refused(outcome.text);
  }

  async #untilReplaced(
    before: number,
    failedBefore: number | undefined,
    { signal }: EffectOptions,
  ): Promise<void> {
    const { clock } = this.#view;
    const giveUpMs = clock.monotonicMs() + this.#spec.timeoutMs;
    let obstacle: unknown;
    do {
      try {
        if ((await runtimeOf(this.#view).pid({ signal })) !== before) return;
        const failed = (await this.#master?.processes({ signal }))?.failedReloads ?? 0;
        if (failedBefore !== undefined && failed > failedBefore)
          throw this.#refused(await this.#master?.complaints({ signal }));
      } catch (error) {
        // Its sockets are being handed over.
        if (!(error instanceof HostError) || error.code === 'ERR_HAPROXY_RELOAD') throw error;
        obstacle = error;
      }
      await clock.sleep(LOOK_EVERY_MS, { signal });
    } while (clock.monotonicMs() < giveUpMs);
    throw this.#failed(
      'reload HAProxy',
      `no new worker answered within ${this.#spec.timeoutMs} ms: the old one is still at work`,
      "see HAProxy's log for what it has against its configuration",
      obstacle,
    );
  }

  async #untilHandedOver({ signal }: EffectOptions): Promise<WorkersObservation | undefined> {
    const master = this.#master;
    if (master === undefined) return undefined;
    return settled(
      this.#view,
      () => onceBack(this.#view, () => master.workers({ signal }), { signal }),
      ({ listening }) => listening.length === 0,
      { signal },
    );
  }

  #refused(complaints: string | undefined): HostError {
    return this.#failed(
      'reload HAProxy',
      `the new worker did not start, the old one is still at work: ${complaints ?? "HAProxy's log says why"}`,
      'correct the configuration of HAProxy; haproxy -c checks it',
    );
  }

  #failed(step: string, reason: string, remedy: string, cause?: unknown): HostError {
    const host = this.#view.label;
    return new HostError('ERR_HAPROXY_RELOAD', { host, step, reason, retry: 'later', remedy, cause });
  }
}

/** Asks again while a socket takes no connection: the master gives its own up for a moment with each reload (2.6). */
export async function onceBack<T>(
  { clock }: HostView,
  ask: () => Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  const giveUpMs = clock.monotonicMs() + HANDED_OVER_WITHIN_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const gone = error instanceof HostError && error.code === 'ERR_HAPROXY_SOCKET';
      if (!gone || clock.monotonicMs() >= giveUpMs) throw error;
    }
    await clock.sleep(LOOK_EVERY_MS, { signal });
  }
}

/** Looks until `good`, for as long as a reload may take to be done everywhere; resolves to the last look. */
export async function settled<T>(
  { clock }: HostView,
  look: () => Promise<T>,
  good: (seen: T) => boolean,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  const giveUpMs = clock.monotonicMs() + HANDED_OVER_WITHIN_MS;
  for (;;) {
    const seen = await look();
    if (good(seen) || clock.monotonicMs() >= giveUpMs) return seen;
    await clock.sleep(LOOK_EVERY_MS, { signal });
  }
}

function specOf({ label, pool }: HostView): ReloadSpec {
  if (pool.reload !== undefined) return pool.reload;
  throw new HostError('ERR_HAPROXY_RELOAD', {
    host: label,
    step: 'reload HAProxy',
    reason: `pools.${pool.name} configures no reload`,
    retry: 'never',
    remedy: `set pools.${pool.name}.reload to masterSocket, or to { command: [...] }`,
  });
}

function masterOf({ label, pool, session, clock }: HostView): MasterCli | undefined {
  const { masterSocket }: PoolSpec['haproxy'] = pool.haproxy;
  if (masterSocket === undefined) return undefined;
  return new MasterCli({
    host: label,
    clock,
    connect: ({ signal }) => session.connectSocket(masterSocket, { signal }),
  });
}

/** What went wrong stands at the end, on one line. */
function lastWords(output: string): string {
  const line = output.replaceAll(/\s*\n\s*/g, ' ').replaceAll(/\p{Cc}/gu, '');
  return line.length > 500 ? `...${line.slice(-500)}` : line;
}
