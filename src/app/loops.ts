import { once } from 'node:events';
import { lookEveryMs } from '../domain/discovery.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { idOf } from './host-journal.ts';
import { type HostLoop, HostLoops, takeNews } from './host-loops.ts';
import type { DiscoveredPool } from './roster.ts';
import type { LocalService } from './service.ts';
import { Wake } from './wake.ts';

/** A host that could not be reached is tried again this often: with the connect timeout it stays within 30 s. */
const UNREACHABLE_RETRY_MS = 10_000;
/** After a failure whose back-off could not be stored, and after one that nobody foresaw. */
const PAUSE_MS = 60_000;
/** A timer beyond 24.8 days fires at once in Node, and clocks are set: decide again at least this often. */
const LONGEST_SLEEP_MS = 3_600_000;

/** What `serve` repeats for one configuration: a loop per certificate and a loop per host, all level-triggered. */
export class Loops {
  readonly #config: KacmeConfig;
  readonly #service: LocalService;
  readonly #deps: AppDeps;
  readonly #certificateWakes: ReadonlyMap<string, Wake>;
  readonly #revocationWake = new Wake();
  /** Undefined until the loops run. */
  #hosts: HostLoops | undefined;

  constructor(config: KacmeConfig, service: LocalService, deps: AppDeps) {
    this.#config = config;
    this.#service = service;
    this.#deps = deps;
    this.#certificateWakes = new Map(Object.keys(config.certificates).map((name) => [name, new Wake()]));
  }

  /** Resolves when `signal` aborts and every loop has ended. */
  async run(options: EffectOptions): Promise<void> {
    const prepared = await this.#prepare(options);
    const hosts = new HostLoops((loop) => this.#keepInStep(loop, options));
    this.#hosts = hosts;
    hosts.follow(this.#service.fleet.targets());
    await Promise.all([
      ...(prepared ? [] : [this.#prepareAgain(options)]),
      ...Object.values(this.#config.certificates).map((spec) => this.#keepRenewed(spec, options)),
      ...(this.#certificateWakes.size === 0 ? [] : [this.#keepRevoking(options)]),
      ...this.#service.roster.discovered.map((pool) => this.#keepLearning(pool, options)),
      untilAborted(options.signal),
    ]);
    await hosts.ended();
  }

  /** Resolves to whether nothing failed. */
  async #prepare(options: EffectOptions): Promise<boolean> {
    const { log } = this.#deps;
    try {
      const results = await this.#service.prepare(options);
      const failed = results.filter(({ action }) => action === 'failed');
      for (const { certificate, failure } of failed)
        log.error({ certificate, err: failure, againInMs: PAUSE_MS }, 'certificate cannot be prepared');
      return failed.length === 0;
    } catch (error) {
      if (!options.signal.aborted) log.error({ err: error, againInMs: PAUSE_MS }, 'preparation failed');
      return false;
    }
  }

  /** What could not be prepared keeps nothing else waiting. */
  #prepareAgain(options: EffectOptions): Promise<void> {
    return this.#repeat('preparation', options, async () => {
      await this.#deps.clock.sleep(PAUSE_MS, options);
      return (await this.#prepare(options)) ? 'done' : 'again';
    });
  }

  /** A new bundle is there: its hosts look at once. */
  activated(certificate: string): void {
    this.#certificateWakes.get(certificate)?.wake();
    this.#revocationWake.wake();
    this.#hosts?.wake(certificate, this.#deps.clock.monotonicMs());
  }

  /** Who has come is looked after at once; who has gone is let go when its present call has ended. */
  rosterChanged(): void {
    const { fleet } = this.#service;
    const targets = fleet.targets();
    fleet.retain(targets);
    this.#deps.hosts.retain(targets);
    this.#hosts?.follow(targets);
  }

  #keepRenewed(spec: CertificateSpec, options: EffectOptions): Promise<void> {
    const wake = this.#certificateWakes.get(spec.name) ?? new Wake();
    const { clock } = this.#deps;
    const log = this.#deps.log.child({ certificate: spec.name });
    let lastReason: string | undefined;
    return this.#repeat(`certificate ${spec.name}`, options, async () => {
      const { issuer, decision, nextCheckAt } = await this.#service.decide(spec, options);
      log[decision.reason === lastReason ? 'debug' : 'info']({ issuer, ...decision }, 'renewal decided');
      lastReason = decision.reason;
      if (decision.action === 'wait') {
        const until = Math.min(decision.until.getTime(), nextCheckAt?.getTime() ?? Number.POSITIVE_INFINITY);
        const ms = Math.max(0, until - clock.now().getTime());
        await wake.sleep(Math.min(ms, LONGEST_SLEEP_MS), clock, options);
        return 'again';
      }
      try {
        await this.#service.issue(spec, issuer, decision.reason, options);
      } catch (error) {
        options.signal.throwIfAborted();
        // It is logged and stored as back-off already; the pause is for the case that it could not be stored.
        log.debug({ err: error }, 'issuance will be decided again');
        await wake.sleep(PAUSE_MS, clock, options);
      }
      return 'again';
    });
  }

  /** What was replaced is revoked once no host presents it. */
  #keepRevoking(options: EffectOptions): Promise<void> {
    return this.#repeat('revocations', options, async () => {
      const left = await this.#service.concludeRevocations(options);
      const ms = left ? this.#config.reconcile.everyMs : LONGEST_SLEEP_MS;
      await this.#revocationWake.sleep(ms, this.#deps.clock, options);
      return 'again';
    });
  }

  #keepLearning(pool: DiscoveredPool, options: EffectOptions): Promise<void> {
    const { clock, random } = this.#deps;
    const { roster } = this.#service;
    const everyMs = lookEveryMs(pool.discovery);
    return this.#repeat(`hosts of ${pool.name}`, options, async () => {
      await roster.look(pool, options);
      const pauseMs = roster.failing(pool) ? Math.min(everyMs, PAUSE_MS) : everyMs;
      await clock.sleep(pauseMs * (1 - random.uniform() / 10), options);
      return 'again';
    });
  }

  #keepInStep(loop: HostLoop, options: EffectOptions): Promise<void> {
    const { clock, random } = this.#deps;
    return this.#repeat(`host ${idOf(loop.target)}`, options, async () => {
      if (loop.gone) return 'done';
      const passOptions = { ...options, ...takeNews(loop), sparing: true };
      const results = await this.#service.fleet.reconcile(loop.target, passOptions);
      const lost = results.length > 0 && results.every(({ action }) => action === 'failed');
      const everyMs = lost
        ? Math.min(UNREACHABLE_RETRY_MS, this.#config.reconcile.everyMs)
        : this.#config.reconcile.everyMs;
      // A little early, never late: hosts must not be looked at in step, and drift is repaired within `every`.
      await loop.wake.sleep(everyMs * (1 - random.uniform() / 10), clock, options);
      return 'again';
    });
  }

  /** Calls `step` until it says `done` or `signal` aborts. What it throws is logged, and it is called again later. */
  async #repeat(
    loop: string,
    { signal }: EffectOptions,
    step: () => Promise<'again' | 'done'>,
  ): Promise<void> {
    const { clock, log } = this.#deps;
    const stepOrPause = async (): Promise<'again' | 'done'> => {
      try {
        return await step();
      } catch (error) {
        signal.throwIfAborted();
        log.error({ err: error, loop, againInMs: PAUSE_MS }, 'loop failed');
        await clock.sleep(PAUSE_MS, { signal });
        return 'again';
      }
    };
    try {
      while (!signal.aborted && (await stepOrPause()) === 'again');
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
