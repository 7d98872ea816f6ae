import { KacmeError, reportError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Versioned } from '../ports/state-store.ts';
import type { AlongWith } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { type AccountRecord, accountRecord, loadRecord } from './records.ts';

export type HeldAccount = Versioned<AccountRecord>;

type AccountRecordsDeps = Pick<AppDeps, 'store' | 'pki' | 'clock' | 'log'>;

/** The accounts in the store: one for each issuer and directory. */
export class AccountRecords {
  readonly #deps: AccountRecordsDeps;

  constructor(deps: AccountRecordsDeps) {
    this.#deps = deps;
  }

  find(spec: IssuerSpec, options: { signal: AbortSignal }): Promise<HeldAccount | undefined> {
    return loadRecord(this.#deps.store, accountRecord, [spec.name, spec.directory], options);
  }

  /** Makes and stores the account key if there is none. */
  async ensure(spec: IssuerSpec, options: EffectOptions): Promise<HeldAccount> {
    const held = await this.find(spec, options);
    if (held !== undefined) return held;
    try {
      const made = await this.put(spec, 0, await this.fresh(spec), {}, options);
      this.#deps.log.info({ issuer: spec.name, directory: spec.directory }, 'account key created');
      return made;
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CONFLICT') throw error;
      // Another certificate of the same issuer was faster.
      return this.ensure(spec, options);
    }
  }

  /** A new key that no CA knows yet; nothing is stored. */
  async fresh(spec: IssuerSpec): Promise<AccountRecord> {
    return {
      keyPem: await this.#deps.pki.generateKey('ecdsa-p256'),
      url: undefined,
      directory: spec.directory,
      createdAt: this.#deps.clock.now().toISOString(),
      nextKeyPem: undefined,
      closed: undefined,
    };
  }

  /** Throws `ERR_STORE_CONFLICT` unless the record still has `ifRevision` (0: there is none). */
  async put(
    spec: IssuerSpec,
    ifRevision: number,
    value: AccountRecord,
    { conditions = [], puts = [], deletes = [] }: AlongWith,
    options: EffectOptions,
  ): Promise<HeldAccount> {
    const key = accountRecord.key(spec.name, spec.directory);
    const revision = await this.#deps.store.transact(
      {
        conditions: [{ key, revision: ifRevision }, ...conditions],
        puts: [{ key, value: accountRecord.serialize(value) }, ...puts],
        deletes,
      },
      options,
    );
    return { value, revision };
  }
}

/** Throws `ERR_ACCOUNT_CLOSED` for an account that the operator deactivated. */
export function assertOpen({ name }: IssuerSpec, { url, closed }: AccountRecord): void {
  if (closed === undefined) return;
  const why = closed.confirmed
    ? `account ${url ?? ''} was deactivated at ${closed.since} by kacme account deactivate`
    : `the deactivation of account ${url ?? ''} was begun at ${closed.since}, and the CA's answer is not known (run kacme account deactivate ${name} --yes again)`;
  throw closedError(name, why);
}

export function closedError(issuer: string, why: string): KacmeError {
  return new KacmeError('ERR_ACCOUNT_CLOSED', `issuer ${issuer} cannot be used: ${why}`, {
    retry: 'never',
    remedy:
      `kacme registers no other account by itself. Make one with \`kacme account register ${issuer}\`, take over an ` +
      `existing one with \`kacme account recover ${issuer} --key FILE\`, or take the issuer out of the certificates`,
  });
}
