import type { IssuerSpec } from '../domain/model.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AppDeps } from './deps.ts';
import { type AccountRecord, accountRecord, loadRecord } from './records.ts';

/**
 * The issuers with kacme's account at each. An account is registered (or found again by its key, RFC 8555
 * section 7.3) once per process, when it is first needed.
 */
export class Authorities {
  readonly #issuers: Readonly<Record<string, IssuerSpec>>;
  readonly #deps: AppDeps;
  readonly #ready = new Map<string, Promise<CertificateAuthority>>();

  constructor(issuers: Readonly<Record<string, IssuerSpec>>, deps: AppDeps) {
    this.#issuers = issuers;
    this.#deps = deps;
  }

  /** Makes and stores the account key if there is none. Resolves to whether it was made now. */
  async ensureAccountKey(issuer: string, options: EffectOptions): Promise<boolean> {
    const { created } = await this.#account(this.#spec(issuer), options);
    return created;
  }

  /** Resolves once the account is known to the CA. A failure is not remembered: the next call tries again. */
  async of(issuer: string, options: EffectOptions): Promise<CertificateAuthority> {
    const known = this.#ready.get(issuer);
    if (known !== undefined) return known;
    const registering = this.#register(this.#spec(issuer), options);
    this.#ready.set(issuer, registering);
    try {
      return await registering;
    } catch (error) {
      this.#ready.delete(issuer);
      throw error;
    }
  }

  #spec(issuer: string): IssuerSpec {
    const spec = this.#issuers[issuer];
    if (spec === undefined) throw new RangeError(`issuer ${issuer} is not configured`);
    return spec;
  }

  async #register(spec: IssuerSpec, options: EffectOptions): Promise<CertificateAuthority> {
    const { record, revision } = await this.#account(spec, options);
    const authority = await this.#deps.connectCertificateAuthority(spec, record.keyPem);
    const url = await authority.ensureAccount(options);
    if (url !== record.url) {
      const key = accountRecord.key(spec.name);
      await this.#deps.store.transact(
        {
          conditions: [{ key, revision }],
          puts: [{ key, value: accountRecord.serialize({ ...record, url }) }],
          deletes: [],
        },
        options,
      );
      this.#deps.log.info({ issuer: spec.name, account: url }, 'account registered');
    }
    return authority;
  }

  async #account(
    spec: IssuerSpec,
    options: EffectOptions,
  ): Promise<{ record: AccountRecord; revision: number; created: boolean }> {
    const { store, pki, clock, log } = this.#deps;
    const held = await loadRecord(store, accountRecord, spec.name, options);
    if (held !== undefined && held.value.directory === spec.directory) {
      return { record: held.value, revision: held.revision, created: false };
    }
    // Another directory is another CA: its account is another one, and gets a key of its own.
    const record: AccountRecord = {
      keyPem: await pki.generateKey('ecdsa-p256'),
      url: undefined,
      directory: spec.directory,
      createdAt: clock.now().toISOString(),
    };
    const key = accountRecord.key(spec.name);
    const revision = await store.transact(
      {
        conditions: [{ key, revision: held?.revision ?? 0 }],
        puts: [{ key, value: accountRecord.serialize(record) }],
        deletes: [],
      },
      options,
    );
    log.info(
      { issuer: spec.name, reason: held === undefined ? 'none held' : 'the directory changed' },
      'account key created',
    );
    return { record, revision, created: true };
  }
}
