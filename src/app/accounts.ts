import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import { accountKeyFacts, toPkcs8 } from '../domain/account-key.ts';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec, KacmeConfig } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { closedError, type HeldAccount } from './account-records.ts';
import { viewAccount } from './account-view.ts';
import type { Authorities } from './authorities.ts';
import type { AppDeps } from './deps.ts';
import { finishKeyChange, type KeyChange } from './key-change.ts';
import { issuersNamed } from './names.ts';
import { OrderJournal } from './order-journal.ts';
import { type AccountRecord, backoffRecord, loadRecord } from './records.ts';

type RecoverRequest = Extract<AccountRequest, { action: 'recover' }>;

/** What operators do with kacme's accounts. Each change waits for the orders under way at its issuer. */
export class Accounts {
  readonly #config: KacmeConfig;
  readonly #authorities: Authorities;
  readonly #deps: AppDeps;

  constructor(config: KacmeConfig, authorities: Authorities, deps: AppDeps) {
    this.#config = config;
    this.#authorities = authorities;
    this.#deps = deps;
  }

  /** `issuers` empty: every issuer. Only reads. Throws `ERR_UNKNOWN_NAME`. */
  async show(issuers: readonly string[], options: { signal: AbortSignal }): Promise<readonly AccountView[]> {
    const specs = issuersNamed(this.#config, issuers);
    return waitForAll(specs.map((spec) => viewAccount(spec, this.#authorities, this.#deps, options)));
  }

  /** Throws `ERR_UNKNOWN_NAME`, `ERR_ACCOUNT_*`, or what the CA refuses it with. */
  async change(request: AccountRequest, options: EffectOptions): Promise<AccountChange> {
    const [spec] = issuersNamed(this.#config, [request.issuer]);
    if (spec === undefined) throw new RangeError('an account belongs to an issuer');
    const done = await this.#authorities.changing(
      spec.name,
      () => this.#change(spec, request, options),
      options,
    );
    this.#deps.log.info({ issuer: spec.name, action: request.action, reason: done }, 'account command done');
    return { done, account: await viewAccount(spec, this.#authorities, this.#deps, options) };
  }

  #change(spec: IssuerSpec, request: AccountRequest, options: EffectOptions): Promise<string> {
    switch (request.action) {
      case 'register':
        return this.#register(spec, options);
      case 'update':
        return this.#update(spec, options);
      case 'rollover':
        return this.#rollOver(spec, options);
      case 'deactivate':
        return this.#deactivate(spec, options);
      case 'recover':
        return this.#recover(spec, request, options);
    }
  }

  async #register(spec: IssuerSpec, options: EffectOptions): Promise<string> {
    const { records } = this.#authorities;
    const held = await records.ensure(spec, options);
    const usable = held.value.closed === undefined && !(await this.#isClosedAtCa(spec, held.value, options));
    if (!usable) await this.#replace(spec, held.revision, await records.fresh(spec), options);
    const before = usable ? held.value.url : undefined;
    await this.#authorities.of(spec.name, options);
    return before === undefined ? 'account registered' : 'there is a valid account already: nothing changed';
  }

  async #isClosedAtCa(
    spec: IssuerSpec,
    { keyPem, nextKeyPem }: AccountRecord,
    options: EffectOptions,
  ): Promise<boolean> {
    if (nextKeyPem !== undefined) return false;
    const account = await (await this.#authorities.connect(spec, keyPem)).account(options);
    return account !== undefined && account.status !== 'valid';
  }

  async #update(spec: IssuerSpec, options: EffectOptions): Promise<string> {
    const authority = await this.#authorities.of(spec.name, options);
    const { contact } = await authority.updateContact(options);
    const told = contact ?? spec.contact;
    return `contacts are now ${told.length === 0 ? 'none' : told.join(', ')}`;
  }

  async #rollOver(spec: IssuerSpec, options: EffectOptions): Promise<string> {
    const { records } = this.#authorities;
    // Also finishes a change that was begun before: the account has one key then.
    await this.#authorities.of(spec.name, options);
    const held = await records.ensure(spec, options);
    const { keyPem: nextKeyPem } = await records.fresh(spec);
    const announced = await records.put(spec, held.revision, { ...held.value, nextKeyPem }, {}, options);
    const { refusal } = await this.#finishKeyChange(spec, announced, options);
    if (refusal !== undefined) throw refusal;
    const { thumbprint } = accountKeyFacts(nextKeyPem);
    return `the account has a new key with thumbprint ${thumbprint}; the old one is destroyed`;
  }

  #finishKeyChange(spec: IssuerSpec, held: HeldAccount, options: EffectOptions): Promise<KeyChange> {
    const { records } = this.#authorities;
    const connect = (spec: IssuerSpec, keyPem: string) => this.#authorities.connect(spec, keyPem);
    return finishKeyChange(spec, held, { records, connect, log: this.#deps.log }, options);
  }

  async #deactivate(spec: IssuerSpec, options: EffectOptions): Promise<string> {
    const { records } = this.#authorities;
    const held = await records.find(spec, options);
    if (held?.value.url === undefined && held?.value.closed === undefined) throw noAccount(spec);
    if (held.value.closed?.confirmed === true) return 'the account was deactivated before';
    const { held: open } = await this.#finishKeyChange(spec, held, options);
    await this.#abandonOrders(spec, 'the account is deactivated', options);
    const since = open.value.closed?.since ?? this.#deps.clock.now().toISOString();
    // Before the CA is asked: an account whose end was begun must not be taken for one to register again.
    const closing = { ...open.value, closed: { since, confirmed: false } };
    const announced = await records.put(spec, open.revision, closing, {}, options);
    try {
      const authority = await this.#authorities.connect(spec, closing.keyPem);
      if ((await authority.account(options))?.status === 'valid') await authority.deactivateAccount(options);
    } catch (error) {
      this.#deps.log.warn({ issuer: spec.name, err: error }, 'account perhaps not deactivated');
      throw error;
    }
    const closed = { ...closing, closed: { since, confirmed: true } };
    await records.put(spec, announced.revision, closed, {}, options);
    return `the account is deactivated; kacme makes no other one until you run kacme account register ${spec.name}`;
  }

  /** Asks the CA, and changes nothing. Throws what recovering this key would throw before it changes anything. */
  async rehearseRecovery(
    request: RecoverRequest,
    options: { signal: AbortSignal },
  ): Promise<{ readonly url: string; readonly held: boolean }> {
    const [spec] = issuersNamed(this.#config, [request.issuer]);
    if (spec === undefined) throw new RangeError('an account belongs to an issuer');
    const { url, same } = await this.#recoverable(spec, request, options);
    return { url, held: same };
  }

  async #recover(spec: IssuerSpec, request: RecoverRequest, options: EffectOptions): Promise<string> {
    const { records } = this.#authorities;
    const { url, keyPem, revision, same } = await this.#recoverable(spec, request, options);
    if (same) return `${url} is the account that kacme has: nothing changed`;
    const recovered = { ...(await records.fresh(spec)), keyPem, url };
    await this.#replace(spec, revision, recovered, options);
    return `account ${url} recovered by its key`;
  }

  /** The valid account that the CA knows the key by; `same`: kacme has it already. */
  async #recoverable(
    spec: IssuerSpec,
    { keyPem: given, replace }: RecoverRequest,
    options: { signal: AbortSignal },
  ) {
    const { records } = this.#authorities;
    const { thumbprint, type } = accountKeyFacts(given);
    const keyPem = toPkcs8(given);
    const held = await records.find(spec, options);
    const present = held?.value;
    const same = present !== undefined && accountKeyFacts(present.keyPem).thumbprint === thumbprint;
    if (present?.url !== undefined && present.closed === undefined && !same && !replace)
      throw hasAccount(spec, present.url);
    const account = await (await this.#authorities.connect(spec, keyPem)).account(options);
    if (account === undefined) throw unknownKey(spec, { thumbprint, type });
    if (account.status !== 'valid' || account.url === undefined)
      throw closedError(spec.name, `the account of this key is ${account.status} at the CA`);
    const { url } = account;
    return { url, keyPem, revision: held?.revision ?? 0, same: same && present.url === url };
  }

  /** Another account takes the place of the former: its orders can be of no use to the new one. */
  async #replace(
    spec: IssuerSpec,
    ifRevision: number,
    value: AccountRecord,
    options: EffectOptions,
  ): Promise<void> {
    await this.#abandonOrders(spec, 'the issuer gets another account', options);
    const deletes = await this.#closedBackoffs(spec, options);
    await this.#authorities.records.put(spec, ifRevision, value, { deletes }, options);
  }

  /** What failed because the account was closed need not wait any longer. */
  async #closedBackoffs(spec: IssuerSpec, options: { signal: AbortSignal }): Promise<readonly string[]> {
    const found = await waitForAll(
      Object.keys(this.#config.certificates).map(async (certificate) => {
        const held = await loadRecord(this.#deps.store, backoffRecord, [certificate, spec.name], options);
        const closed = held?.value.lastFailure.code === 'ERR_ACCOUNT_CLOSED';
        return closed ? [backoffRecord.key(certificate, spec.name)] : [];
      }),
    );
    return found.flat();
  }

  async #abandonOrders(spec: IssuerSpec, reason: string, options: EffectOptions): Promise<void> {
    const book = await this.#authorities.book(spec.name);
    const certificates = Object.values(this.#config.certificates);
    await waitForAll(
      certificates.map(async (certificate) => {
        const log = this.#deps.log.child({ certificate: certificate.name, issuer: spec.name });
        const journal = new OrderJournal(certificate, spec.name, {
          ...this.#deps,
          log,
          book,
          terms: this.#authorities.terms(certificate, spec.name),
        });
        const stored = await journal.load(options);
        if (stored !== undefined) await journal.abandon(stored, reason, options);
      }),
    );
  }
}

function noAccount({ name }: IssuerSpec): KacmeError {
  return new KacmeError('ERR_ACCOUNT_UNKNOWN', `issuer ${name}: kacme has no account there`, {
    retry: 'never',
    remedy: `kacme registers one with the first order, or at once by \`kacme account register ${name}\``,
  });
}

function hasAccount({ name }: IssuerSpec, url: string): KacmeError {
  return new KacmeError(
    'ERR_ACCOUNT_EXISTS',
    `issuer ${name}: kacme has account ${url} already, and would lose its key`,
    {
      retry: 'never',
      remedy: `keep it; or \`kacme account deactivate ${name}\` first, or repeat the command with --replace to forget it`,
    },
  );
}

function unknownKey({ name, directory }: IssuerSpec, key: { thumbprint: string; type: string }): KacmeError {
  return new KacmeError(
    'ERR_ACCOUNT_UNKNOWN',
    `issuer ${name}: ${directory} knows no account of this ${key.type} key (thumbprint ${key.thumbprint}); nothing was changed`,
    {
      retry: 'never',
      remedy:
        'check that the key belongs to an account at this very directory, staging and production being two',
    },
  );
}
