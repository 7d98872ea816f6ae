import type { Logger } from 'pino';
import { assertHostNamed, assertPoolNamed, certificatesNamed, issuersNamed } from '../app/names.ts';
import { LocalService } from '../app/service.ts';
import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import { KacmeError } from '../domain/errors.ts';
import type { CheckReport } from '../domain/finding.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { RevokeRequest } from '../domain/revocation.ts';
import type { AdoptionSummary, ReloadSummary, Status, Summary } from '../domain/status.ts';
import type { Mandate } from '../ports/leadership.ts';
import type { AdoptionRequest, CommandOptions, KacmeService } from '../ports/service.ts';
import { FileStateStore } from '../store/file-store.ts';
import { SocketLeadership } from '../store/socket-leadership.ts';
import { serveChallenges, wireAdapters } from './adapters.ts';
import { checkDirectly } from './direct-check.ts';
import { Releasers } from './releasers.ts';
import { systemClock } from './system.ts';

export interface DirectServiceOptions {
  /** The running service, if there is one by now. */
  readonly findService: (options: { signal: AbortSignal }) => Promise<KacmeService | undefined>;
  readonly log: Logger;
  readonly version: string;
}

type Acting = Pick<
  KacmeService,
  'bootstrap' | 'renew' | 'rollback' | 'reload' | 'adopt' | 'distribute' | 'changeAccount' | 'revoke'
>;

interface Opened {
  readonly service: LocalService;
  readonly store: FileStateStore;
}

/**
 * Does the work in this process, for when no service runs. What only reads takes no lock; everything else takes
 * the same lock as `kacme serve` for as long as it lasts.
 */
export class DirectService implements KacmeService {
  readonly #config: KacmeConfig;
  readonly #findService: DirectServiceOptions['findService'];
  readonly #log: Logger;
  readonly #version: string;
  readonly #releasers = new Releasers();

  constructor(config: KacmeConfig, { findService, log, version }: DirectServiceOptions) {
    this.#config = config;
    this.#findService = findService;
    this.#log = log;
    this.#version = version;
  }

  async status(options: { signal: AbortSignal }): Promise<Status> {
    const { service } = await this.#open({ readOnly: true, mandate: undefined });
    return service.status(options);
  }

  check(options: CommandOptions): Promise<CheckReport> {
    return checkDirectly({ ...options, config: this.#config, log: this.#log, version: this.#version });
  }

  async calendar(request: { days: number }, options: { signal: AbortSignal }): Promise<RenewalCalendar> {
    const { service } = await this.#open({ readOnly: true, mandate: undefined });
    return service.calendar(request, options);
  }

  async accounts(
    request: { issuers: readonly string[] },
    options: { signal: AbortSignal },
  ): Promise<readonly AccountView[]> {
    const { service } = await this.#open({ readOnly: true, mandate: undefined });
    return service.accounts(request, options);
  }

  async changeAccount(request: AccountRequest, options: CommandOptions): Promise<AccountChange> {
    issuersNamed(this.#config, [request.issuer]);
    return this.#act(`account ${request.action}`, options, (service) =>
      service.changeAccount(request, options),
    );
  }

  async bootstrap(options: CommandOptions): Promise<Summary> {
    return this.#act('bootstrap', options, (service) => service.bootstrap(options));
  }

  async renew(request: Parameters<KacmeService['renew']>[0], options: CommandOptions): Promise<Summary> {
    // A mistyped name must not even make a store.
    certificatesNamed(this.#config, request.names);
    if (request.dryRun) {
      const { service } = await this.#open({ readOnly: true, mandate: undefined });
      return service.renew(request, options);
    }
    return this.#act('renew', options, async (service, store) => {
      if (store !== undefined) await this.#answerChallenges(store, options);
      return service.renew(request, options);
    });
  }

  async reload(
    request: Parameters<KacmeService['reload']>[0],
    options: CommandOptions,
  ): Promise<ReloadSummary> {
    if (request.host !== undefined) assertHostNamed(this.#config, request.host);
    if (request.pool !== undefined) assertPoolNamed(this.#config, request.pool);
    return this.#act('reload', options, (service) => service.reload(request, options));
  }

  async rollback(
    request: Parameters<KacmeService['rollback']>[0],
    options: CommandOptions,
  ): Promise<Summary> {
    certificatesNamed(this.#config, [request.name]);
    return this.#act('rollback', options, (service) => service.rollback(request, options));
  }

  async adopt(request: AdoptionRequest, options: CommandOptions): Promise<AdoptionSummary> {
    certificatesNamed(this.#config, request.names);
    if (request.dryRun) {
      const { service } = await this.#open({ readOnly: true, mandate: undefined });
      return service.adopt(request, options);
    }
    return this.#act('adopt', options, (service) => service.adopt(request, options));
  }

  async revoke(request: RevokeRequest, options: CommandOptions): Promise<Summary> {
    certificatesNamed(this.#config, [request.certificate]);
    return this.#act('revoke', options, async (service, store) => {
      if (store !== undefined && request.replace) await this.#answerChallenges(store, options);
      return service.revoke(request, options);
    });
  }

  async distribute(request: { host: string | undefined }, options: CommandOptions): Promise<Summary> {
    if (request.host !== undefined) assertHostNamed(this.#config, request.host);
    return this.#act('distribute', options, (service) => service.distribute(request, options));
  }

  async reloadConfig(): Promise<void> {
    throw new KacmeError(
      'ERR_CONTROL_UNREACHABLE',
      `no kacme serve answers at ${this.#config.control.socket}`,
      {
        retry: 'never',
        remedy: 'start kacme serve: it reads the configuration when it starts',
      },
    );
  }

  async close(): Promise<void> {
    await this.#releasers.releaseAll(this.#log);
  }

  async #answerChallenges(store: FileStateStore, options: { signal: AbortSignal }): Promise<void> {
    const challenges = await serveChallenges(this.#config, store, this.#log, options);
    this.#releasers.add('challenge server', () => challenges.close());
  }

  /** With the lock by itself (then `store` is given); else through the service that has taken it meanwhile. */
  async #act<T>(
    command: string,
    { signal }: { signal: AbortSignal },
    run: (service: Acting, store: FileStateStore | undefined) => Promise<T>,
  ): Promise<T> {
    const { file: root } = this.#config.store;
    const leadership = new SocketLeadership(root, { clock: systemClock, command: `kacme ${command}` });
    const mandate = await leadership.tryAcquire({ signal });
    if (mandate !== undefined) {
      this.#releasers.add('lock', () => mandate.release());
      const { service, store } = await this.#open({ readOnly: false, mandate });
      return run(service, store);
    }
    const running = await this.#findService({ signal });
    if (running !== undefined) return run(running, undefined);
    const holder = (await leadership.holder({ signal })) ?? 'another kacme that has just ended';
    throw new KacmeError('ERR_MANDATE_HELD', `cannot ${command}: the store ${root} is held by ${holder}`, {
      retry: 'later',
      remedy: 'wait until it has finished, then try again',
    });
  }

  async #open({ readOnly, mandate }: { readOnly: boolean; mandate: Mandate | undefined }): Promise<Opened> {
    const store = await FileStateStore.open(this.#config.store.file, { clock: systemClock, readOnly });
    this.#releasers.add('store', () => store.close());
    const depsFor = wireAdapters({
      store,
      log: this.#log,
      version: this.#version,
      releasers: this.#releasers,
      onAcmeRequest: () => {},
    });
    return { service: new LocalService(this.#config, depsFor(this.#config), { mandate }), store };
  }
}
