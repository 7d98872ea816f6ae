import { type IssuanceTerms, issuanceTerms } from '../domain/issuance-terms.ts';
import type { CertificateSpec, IssuerSpec } from '../domain/model.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { AccountLocks } from './account-locks.ts';
import { AccountRecords, assertOpen } from './account-records.ts';
import type { AppDeps } from './deps.ts';
import { finishKeyChange } from './key-change.ts';
import { type LedgerWrite, RateBook } from './rate-book.ts';
import { SingleFlight } from './single-flight.ts';

/** A connection to an issuer, and the account key it signs with. */
interface Connected {
  readonly keyPem: string;
  readonly authority: Promise<CertificateAuthority>;
}

interface Ready {
  readonly keyPem: string;
  readonly authority: CertificateAuthority;
}

/**
 * The issuers with kacme's account at each. An account is registered (or found again by its key, RFC 8555
 * section 7.3) once per process, when it is first needed, and again when its key has changed.
 */
export class Authorities {
  readonly records: AccountRecords;
  readonly #issuers: Readonly<Record<string, IssuerSpec>>;
  readonly #deps: AppDeps;
  readonly #locks: AccountLocks;
  readonly #connected = new Map<string, Connected>();
  readonly #ready = new Map<string, Ready>();
  readonly #registering = new SingleFlight<CertificateAuthority>();

  constructor(issuers: Readonly<Record<string, IssuerSpec>>, deps: AppDeps, locks = new AccountLocks()) {
    this.#issuers = issuers;
    this.#deps = deps;
    this.#locks = locks;
    this.records = new AccountRecords(deps);
  }

  knows(issuer: string): boolean {
    return Object.hasOwn(this.#issuers, issuer);
  }

  /** Every configured issuer. */
  names(): readonly string[] {
    return Object.keys(this.#issuers);
  }

  /** Makes and stores the account key if there is none. */
  async ensureAccountKey(issuer: string, options: EffectOptions): Promise<void> {
    await this.records.ensure(this.#spec(issuer), options);
  }

  /** Whether the CA has registered the account, as far as is stored. */
  async isRegistered(issuer: string, options: { signal: AbortSignal }): Promise<boolean> {
    return (await this.accountUrl(issuer, options)) !== undefined;
  }

  /** Runs `work` while nobody changes the issuer's account. */
  using<T>(issuer: string, work: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    return this.#locks.of(issuer).shared(work, options);
  }

  /** Runs `work`, which changes the issuer's account, while nobody works with it. */
  changing<T>(issuer: string, work: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    return this.#locks.of(issuer).exclusive(work, options);
  }

  /**
   * Resolves once the account is known to the CA. A failure is not remembered: the next call tries again. Throws
   * `ERR_ACCOUNT_CLOSED` when the operator deactivated the account.
   */
  async of(issuer: string, options: EffectOptions): Promise<CertificateAuthority> {
    const spec = this.#spec(issuer);
    const { value } = await this.records.ensure(spec, options);
    assertOpen(spec, value);
    const known = this.#ready.get(issuer);
    if (known?.keyPem === value.keyPem && value.nextKeyPem === undefined) return known.authority;
    const { mandate } = options;
    return this.#registering.run(issuer, ({ signal }) => this.#register(spec, { signal, mandate }), options);
  }

  /** Undefined while none is registered, as far as the store knows; the CA is not asked. */
  async accountUrl(issuer: string, options: { signal: AbortSignal }): Promise<string | undefined> {
    return (await this.records.find(this.#spec(issuer), options))?.value.url;
  }

  /** For what needs no account: the CA may not have heard of kacme. */
  async connection(issuer: string, options: EffectOptions): Promise<CertificateAuthority> {
    const spec = this.#spec(issuer);
    const { value } = await this.records.ensure(spec, options);
    return this.connect(spec, value.keyPem);
  }

  /** The issuer by way of an account key; one connection per issuer, and a failure is not remembered. */
  connect(spec: IssuerSpec, keyPem: string): Promise<CertificateAuthority> {
    const known = this.#connected.get(spec.name);
    if (known?.keyPem === keyPem) return known.authority;
    const authority = this.#deps.connectCertificateAuthority(spec, keyPem);
    const connected = { keyPem, authority };
    this.#connected.set(spec.name, connected);
    authority.catch(() => {
      if (this.#connected.get(spec.name) === connected) this.#connected.delete(spec.name);
    });
    return authority;
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
    const { log } = this.#deps;
    const connect = (spec: IssuerSpec, keyPem: string) => this.connect(spec, keyPem);
    const found = await this.records.ensure(spec, options);
    const { held } = await finishKeyChange(spec, found, { records: this.records, connect, log }, options);
    const { value: record, revision } = held;
    const book = await this.book(spec.name);
    if (record.url === undefined) await book.assertRegisters(options);
    const authority = await this.connect(spec, record.keyPem);
    const url = await authority.ensureAccount(options);
    if (url !== record.url) {
      const write = (part: LedgerWrite) =>
        this.records.put(spec, revision, { ...record, url }, part, options);
      await book.changing(book.registered(), write, options);
      log.info({ issuer: spec.name, account: url }, 'account registered');
    }
    this.#ready.set(spec.name, { keyPem: record.keyPem, authority });
    return authority;
  }
}
