import { isDeepStrictEqual } from 'node:util';
import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import { KacmeError } from '../domain/errors.ts';
import { type CheckReport, Findings } from '../domain/finding.ts';
import { Lane } from '../domain/lane.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { RevokeRequest } from '../domain/revocation.ts';
import type { AdoptionSummary, ReloadSummary, Status, Summary } from '../domain/status.ts';
import type { Leadership, Mandate } from '../ports/leadership.ts';
import type { AdoptionRequest, CommandOptions, KacmeService } from '../ports/service.ts';
import type { AppDeps } from './deps.ts';
import { sweepChallenges } from './issue.ts';
import { Loops } from './loops.ts';
import { servingFrom } from './probes.ts';
import { type Coordination, LocalService, newCoordination } from './service.ts';

export interface SupervisorOptions {
  readonly config: KacmeConfig;
  /** Reads the configuration files again. */
  readonly loadConfig: (options: { signal: AbortSignal }) => Promise<KacmeConfig>;
  readonly depsFor: (config: KacmeConfig) => AppDeps;
  readonly leadership: Leadership;
}

/** From the start of the service until it leads, when nobody else does. */
const TAKING_LOCK_WITHIN_MS = 5_000;

interface Leading {
  readonly service: LocalService;
  readonly mandate: Mandate;
  /** Aborts when the service is told to stop. */
  readonly stop: AbortSignal;
  /** Ends the loops so that they start anew with another configuration. */
  readonly restart: AbortController;
}

/**
 * The running service: waits for the mandate, then runs the loops of the present configuration until it is told
 * to stop, loses the mandate, or takes over another configuration. Operators' commands arrive here too.
 */
export class Supervisor implements KacmeService {
  #config: KacmeConfig;
  #leading: Leading | undefined;
  /** Operators' commands under way: they act under the mandate, so it is kept until they have ended. */
  readonly #commands = new Set<Promise<unknown>>();
  #coordination: Coordination | undefined;
  readonly #reloads = new Lane(1);
  readonly #options: SupervisorOptions;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  /** Resolves after a clean stop, which `signal` asks for. */
  async run({ signal }: { signal: AbortSignal }): Promise<void> {
    while (!signal.aborted) {
      const mandate = await this.#campaign(signal);
      if (mandate === undefined) return;
      try {
        await this.#sweep(mandate, signal);
        while (!signal.aborted && !mandate.signal.aborted) await this.#lead(mandate, signal);
      } finally {
        this.#leading = undefined;
        await Promise.allSettled(this.#commands);
        await mandate.release();
      }
    }
  }

  /** Why the service cannot do its work now; empty when it can. */
  async obstacles(options: { signal: AbortSignal }): Promise<readonly string[]> {
    if (this.#leading === undefined) return [await this.#whyNotLeading(options)];
    const { certificates } = await this.#leading.service.status(options);
    return certificates
      .filter(({ state }) => state === 'missing' || state === 'expired' || state === 'unreadable')
      .map(({ name, state, next }) => `certificate ${name} is ${state}; ${next}`);
  }

  async status(options: { signal: AbortSignal }): Promise<Status> {
    if (this.#leading !== undefined) return this.#leading.service.status(options);
    return { ...(await this.#reader().remembered(options)), role: 'standby' };
  }

  async check(options: CommandOptions): Promise<CheckReport> {
    const findings = new Findings('service', 'kacme');
    if (this.#leading === undefined) {
      const remedy = 'ask the kacme that holds the store, which can try more';
      findings.warning('store', await this.#whyNotLeading(options), remedy);
      const surroundings = { mandate: undefined, whileServing: undefined, service: findings.list };
      return this.#reader().check(surroundings, options);
    }
    const { mandate } = this.#leading;
    findings.ok('service', 'runs and leads: it writes to the store and listens on its ports');
    return this.#command(options, (service, own) => {
      const { signal } = own;
      const whileServing = servingFrom(this.#options.depsFor(this.#config), { signal, mandate });
      return service.check({ mandate, whileServing, service: findings.list }, own);
    });
  }

  async calendar(request: { days: number }, options: { signal: AbortSignal }): Promise<RenewalCalendar> {
    return (this.#leading?.service ?? this.#reader()).calendar(request, options);
  }

  async accounts(
    request: { issuers: readonly string[] },
    options: { signal: AbortSignal },
  ): Promise<readonly AccountView[]> {
    return (this.#leading?.service ?? this.#reader()).accounts(request, options);
  }

  async changeAccount(request: AccountRequest, options: CommandOptions): Promise<AccountChange> {
    return this.#command(options, (service, options) => service.changeAccount(request, options));
  }

  async bootstrap(options: CommandOptions): Promise<Summary> {
    return this.#command(options, (service, options) => service.bootstrap(options));
  }

  async renew(request: Parameters<KacmeService['renew']>[0], options: CommandOptions): Promise<Summary> {
    return this.#command(options, (service, options) => service.renew(request, options));
  }

  async reload(
    request: Parameters<KacmeService['reload']>[0],
    options: CommandOptions,
  ): Promise<ReloadSummary> {
    return this.#command(options, (service, options) => service.reload(request, options));
  }

  async rollback(
    request: Parameters<KacmeService['rollback']>[0],
    options: CommandOptions,
  ): Promise<Summary> {
    return this.#command(options, (service, options) => service.rollback(request, options));
  }

  async adopt(request: AdoptionRequest, options: CommandOptions): Promise<AdoptionSummary> {
    return this.#command(options, (service, options) => service.adopt(request, options));
  }

  async revoke(request: RevokeRequest, options: CommandOptions): Promise<Summary> {
    return this.#command(options, (service, options) => service.revoke(request, options));
  }

  async distribute(request: { host: string | undefined }, options: CommandOptions): Promise<Summary> {
    return this.#command(options, (service, options) => service.distribute(request, options));
  }

  /** One after the other: of two that are asked for side by side, the later one reads the newer files. */
  reloadConfig(options: { signal: AbortSignal }): Promise<void> {
    return this.#reloads.run(() => this.#reloadConfig(options), options);
  }

  async #reloadConfig(options: { signal: AbortSignal }): Promise<void> {
    const config = await this.#options.loadConfig(options);
    const fixed = (['store', 'challenge', 'operations', 'control', 'log'] as const).filter(
      (key) => !isDeepStrictEqual(config[key], this.#config[key]),
    );
    if (fixed.length > 0) {
      throw new KacmeError(
        'ERR_CONFIG_INVALID',
        `cannot take the configuration over while running: ${fixed.join(', ')} changed`,
        {
          retry: 'never',
          remedy: 'restart kacme serve; until then it runs on with the old configuration',
        },
      );
    }
    this.#tellLeftBehind(config);
    this.#config = config;
    this.#leading?.restart.abort();
  }

  /** What is deployed no more stays as it is: to take a certificate away from clients is for an operator to do. */
  #tellLeftBehind(config: KacmeConfig): void {
    const { log } = this.#options.depsFor(config);
    for (const { certificate, pool, path, file, crtList } of this.#config.deployments) {
      if (config.deployments.some((other) => other.pool === pool && other.path === path)) continue;
      log.warn(
        {
          certificate,
          pool,
          path,
          file,
          crtList: crtList?.file,
          reason:
            crtList === undefined
              ? 'HAProxy serves it until haproxy.cfg names it no more'
              : 'HAProxy serves it until its line is taken off the crt-list, in file and memory',
        },
        'deployment removed: its file stays on the hosts and is renewed no more',
      );
    }
  }

  /** For what only reads, while another process acts. */
  #reader(): LocalService {
    return new LocalService(this.#config, this.#options.depsFor(this.#config), { mandate: undefined });
  }

  async #campaign(signal: AbortSignal): Promise<Mandate | undefined> {
    const { leadership } = this.#options;
    const { log } = this.#options.depsFor(this.#config);
    try {
      const free = await leadership.tryAcquire({ signal });
      if (free !== undefined) return free;
      log.warn({ holder: await leadership.holder({ signal }) }, 'standing by: another kacme holds the store');
      return await leadership.campaign({ signal });
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
  }

  async #sweep(mandate: Mandate, signal: AbortSignal): Promise<void> {
    const { store, log } = this.#options.depsFor(this.#config);
    try {
      await sweepChallenges(store, { signal, mandate });
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, 'challenges that nobody needs cannot be swept');
    }
  }

  async #lead(mandate: Mandate, signal: AbortSignal): Promise<void> {
    const config = this.#config;
    const deps = this.#options.depsFor(config);
    const restart = new AbortController();
    this.#coordination ??= newCoordination(deps);
    const service = new LocalService(config, deps, {
      mandate,
      coordination: this.#coordination,
      onActivated: (certificate) => loops.activated(certificate),
      onRosterChanged: () => loops.rosterChanged(),
    });
    const loops = new Loops(config, service, deps);
    await service.roster.restore({ signal: AbortSignal.any([signal, mandate.signal]) });
    deps.hosts.retain(service.fleet.targets());
    this.#leading = { service, mandate, stop: signal, restart };
    deps.log.info(
      {
        epoch: mandate.epoch,
        certificates: Object.keys(config.certificates),
        hosts: service.fleet.targets().length,
      },
      'leading',
    );
    await loops.run({ signal: AbortSignal.any([signal, mandate.signal, restart.signal]), mandate });
    if (mandate.signal.aborted && !signal.aborted)
      deps.log.error({ err: mandate.signal.reason }, 'mandate lost');
  }

  /** A stop ends it, and waits until what it had begun is undone or done. */
  async #command<T>(
    options: CommandOptions,
    run: (service: LocalService, options: CommandOptions) => Promise<T>,
  ): Promise<T> {
    const { service, stop } = await this.#presentLeading(options);
    const running = run(service, { ...options, signal: AbortSignal.any([options.signal, stop]) });
    this.#commands.add(running);
    try {
      return await running;
    } catch (error) {
      if (!stop.aborted) throw error;
      throw new KacmeError('ERR_ABORTED', 'the service stops before the command is done', {
        retry: 'later',
        remedy: 'run the command again when the service is back; what was done is kept',
        cause: error,
      });
    } finally {
      this.#commands.delete(running);
    }
  }

  /** A command that comes while the lock is being taken waits a moment; one that comes to a standby is refused. */
  async #presentLeading({ signal }: { signal: AbortSignal }): Promise<Leading> {
    const { clock } = this.#options.depsFor(this.#config);
    const giveUpMs = clock.monotonicMs() + TAKING_LOCK_WITHIN_MS;
    while (this.#leading === undefined) {
      const holder = await this.#options.leadership.holder({ signal });
      if (holder !== undefined || clock.monotonicMs() > giveUpMs) {
        throw new KacmeError('ERR_MANDATE_HELD', `cannot act: ${await this.#whyNotLeading({ signal })}`, {
          retry: 'later',
          remedy: 'ask the kacme that holds the store, or wait until it has finished',
        });
      }
      await clock.sleep(50, { signal });
    }
    return this.#leading;
  }

  async #whyNotLeading(options: { signal: AbortSignal }): Promise<string> {
    const holder = await this.#options.leadership.holder(options);
    return holder === undefined ? 'the lock on the store is being taken' : `the store is held by ${holder}`;
  }
}
