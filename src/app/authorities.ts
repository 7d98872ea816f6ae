import { reportError } from '../domain/errors.ts';
import { type IssuanceTerms, issuanceTerms } from '../domain/issuance-terms.ts';
import type { CertificateSpec, IssuerSpec } from '../domain/model.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Versioned } from '../ports/state-store.ts';
import type { AppDeps } from './deps.ts';
import { type LedgerWrite, RateBook } from './rate-book.ts';
import { type AccountRecord, accountRecord, loadRecord } from './records.ts';
import { SingleFlight } from './single-flight.ts';

/**
 * The issuers with kacme's account at each. An account is registered (or found again by its key, RFC 8555
 * section 7.3) once per process, when it is first needed.
 */
export class Authorities {
  readonly #issuers: Readonly<Record<string, IssuerSpec>>;
  readonly #deps: AppDeps;
  readonly #connected = new Map<string, Promise<CertificateAuthority>>();
  readonly #ready = new Map<string, CertificateAuthority>();
  readonly #registering = new SingleFlight<CertificateAuthority>();

  constructor(issuers: Readonly<Record<string, IssuerSpec>>, deps: AppDeps) {
    this.#issuers = issuers;
    this.#deps = deps;
  }

  knows(issuer: string): boolean {
    return Object.hasOwn(this.#issuers, issuer);
  }

  /** Makes and stores the account key if there is none. */
  async ensureAccountKey(issuer: string, options: EffectOptions): Promise<void> {
    await this.#account(this.#spec(issuer), options);
  }

  /** Whether the CA has registered the account, as far as is stored. */
  async isRegistered(issuer: string, options: { signal: AbortSignal }): Promise<boolean> {
    return (await this.accountUrl(issuer, options)) !== undefined;
  }

  /** Resolves once the account is known to the CA. A failure is not remembered: the next call tries again. */
  async of(issuer: string, options: EffectOptions): Promise<CertificateAuthority> {
    const known = this.#ready.get(issuer);
    if (known !== undefined) return known;
    const { mandate } = options;
    return this.#registering.run(
      issuer,
      async ({ signal }) => {
        const authority = await this.#register(this.#spec(issuer), { signal, mandate });
        this.#ready.set(issuer, authority);
        return authority;
      },
      options,
    );
  }

  /** Undefined while none is registered, as far as the store knows; the CA is not asked. */
  async accountUrl(issuer: string, options: { signal: AbortSignal }): Promise<string | undefined> {
    const spec = this.#spec(issuer);
    const held = await loadRecord(this.#deps.store, accountRecord, [spec.name, spec.directory], options);
    return held?.value.url;
  }

  /** For what needs no account: the CA may not have heard of kacme. */
  async connection(issuer: string, options: EffectOptions): Promise<CertificateAuthority> {
    const spec = this.#spec(issuer);
    return this.#connect(spec, (await this.#account(spec, options)).value);
  }

  /** One connection per issuer; a failure is not remembered. */
  #connect(spec: IssuerSpec, { keyPem }: AccountRecord): Promise<CertificateAuthority> {
    const known = this.#connected.get(spec.name);
    if (known !== undefined) return known;
    const connecting = this.#deps.connectCertificateAuthority(spec, keyPem);
    this.#connected.set(spec.name, connecting);
    connecting.catch(() => this.#connected.delete(spec.name));
    return connecting;
  }

  /** What to ask of the issuer for a certificate, beside its names. */
  terms(spec: CertificateSpec, issuer: string): IssuanceTerms {
    return issuanceTerms(spec, this.#spec(issuer));
  }

  /** What kacme asked of the issuer so far. */
  async book(issuer: string): Promise<RateBook> {
    const spec = this.#spec(issuer);
    const { store, clock, loadRegisteredDomain } = this.#deps;
    const counted = Object.keys(spec.limits).length > 0;
    const registeredDomain = counted ? await loadRegisteredDomain() : (name: string) => name;
    return new RateBook(spec, { store, clock, registeredDomain });
  }

  #spec(issuer: string): IssuerSpec {
    const spec = this.#issuers[issuer];
    if (spec === undefined) throw new RangeError(`issuer ${issuer} is not configured`);
    return spec;
  }

  async #register(spec: IssuerSpec, options: EffectOptions): Promise<CertificateAuthority> {
    const { value: record, revision } = await this.#account(spec, options);
    const book = await this.book(spec.name);
    if (record.url === undefined) await book.assertRegisters(options);
    const authority = await this.#connect(spec, record);
    const url = await authority.ensureAccount(options);
    if (url !== record.url) {
      const key = accountRecord.key(spec.name, spec.directory);
      const account = { key, value: accountRecord.serialize({ ...record, url }) };
      const store = ({ conditions, puts }: LedgerWrite) =>
        this.#deps.store.transact(
          { conditions: [{ key, revision }, ...conditions], puts: [account, ...puts], deletes: [] },
          options,
        );
      await book.changing(book.registered(), store, options);
      this.#deps.log.info({ issuer: spec.name, account: url }, 'account registered');
    }
    return authority;
  }

  async #account(spec: IssuerSpec, options: EffectOptions): Promise<Versioned<AccountRecord>> {
    const { store, pki, clock, log } = this.#deps;
    const id: [string, string] = [spec.name, spec.directory];
    const held = await loadRecord(store, accountRecord, id, options);
    if (held !== undefined) return held;
    const value: AccountRecord = {
      keyPem: await pki.generateKey('ecdsa-p256'),
      url: undefined,
      directory: spec.directory,
      createdAt: clock.now().toISOString(),
    };
    const key = accountRecord.key(...id);
    try {
      const puts = [{ key, value: accountRecord.serialize(value) }];
      const revision = await store.transact(
        { conditions: [{ key, revision: 0 }], puts, deletes: [] },
        options,
      );
      log.info({ issuer: spec.name, directory: spec.directory }, 'account key created');
      return { value, revision };
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CONFLICT') throw error;
      // Another certificate of the same issuer was faster.
      return this.#account(spec, options);
    }
  }
}
