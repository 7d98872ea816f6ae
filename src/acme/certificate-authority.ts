import type { Logger } from 'pino';
import type { RenewalInfoAnswer } from '../domain/renewal-info.ts';
import type {
  Account,
  AccountTerms,
  Authorization,
  CertificateAuthority,
  ConnectCertificateAuthority,
  IssuedChain,
  Order,
  RevocationRequest,
} from '../ports/certificate-authority.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { AcmeAccount, type ReadSecret } from './account.ts';
import { parseAuthorization } from './authorization.ts';
import { PEM_CHAIN, parseAlternates, parseChain } from './certificate.ts';
import { certificateRequest } from './certificate-request.ts';
import { Dispatchers } from './dispatcher.ts';
import { requireLocation } from './document.ts';
import { orderPayload, parseOrder } from './order.ts';
import { poll } from './poll.ts';
import { AcmeProblemError } from './problem.ts';
import { parseRenewalInfo, renewalInfoUrl } from './renewal-info.ts';
import { revokeCertificate } from './revocation.ts';
import { AcmeSession } from './session.ts';
import { createSigner } from './signer.ts';
import { AcmeTransport } from './transport.ts';

/** What the CA needs at least to fetch a challenge or to sign; looking earlier only costs a request. */
const FIRST_LOOK_MS = 30;

export interface CertificateAuthorityDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** kacme's own, for the User-Agent (RFC 8555 section 6.1). */
  readonly version: string;
  /** Resolves a reference of the configuration; throws `ERR_SECRET_UNREADABLE`. */
  readonly readSecret: ReadSecret;
  /** Called once per request sent, for metrics; `result` is `ok` or an error code. */
  readonly onRequest?: (issuer: string, result: string) => void;
}

export interface CertificateAuthorities {
  /**
   * Reads the issuer's `caFile` and the password of its proxy; the CA is not asked yet. Throws
   * `ERR_CONFIG_UNREADABLE`, `ERR_SECRET_UNREADABLE` or `ERR_STORE_CORRUPT`.
   */
  readonly connect: ConnectCertificateAuthority;
  /** Cuts every connection to every CA. */
  close(): Promise<void>;
}

/** The adapter for certificate authorities that speak RFC 8555. */
export function connectCertificateAuthorities(deps: CertificateAuthorityDeps): CertificateAuthorities {
  const dispatchers = new Dispatchers(deps.readSecret);
  return {
    connect: async (issuer, accountKeyPem) => {
      const signer = createSigner(accountKeyPem);
      const dispatcher = await dispatchers.open(issuer);
      const log = deps.log.child({ issuer: issuer.name });
      const transport = new AcmeTransport({
        issuer: issuer.name,
        dispatcher,
        timeoutMs: issuer.timeoutMs,
        secure: issuer.directory.startsWith('https:'),
        proxyUrl: issuer.proxy?.url,
        userAgent: `kacme/${deps.version} (node ${process.versions.node})`,
        clock: deps.clock,
        log,
        onRequest: deps.onRequest,
      });
      const session = new AcmeSession({
        directoryUrl: issuer.directory,
        transport,
        signer,
        monotonicMs: () => deps.clock.monotonicMs(),
      });
      const account = new AcmeAccount({ issuer, session, readSecret: deps.readSecret });
      return new AcmeCertificateAuthority(session, account, { clock: deps.clock, log });
    },
    close: () => dispatchers.close(),
  };
}

class AcmeCertificateAuthority implements CertificateAuthority {
  readonly #session: AcmeSession;
  readonly #account: AcmeAccount;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** Orders just finalized: when the CA asked to be asked again (section 7.4). */
  readonly #finalized = new Map<string, Date | undefined>();

  constructor(
    session: AcmeSession,
    account: AcmeAccount,
    { clock, log }: Pick<CertificateAuthorityDeps, 'clock' | 'log'>,
  ) {
    this.#session = session;
    this.#account = account;
    this.#clock = clock;
    this.#log = log;
  }

  ensureAccount(options: EffectOptions): Promise<string> {
    return this.#account.ensure(options);
  }

  async profiles(
    options: Parameters<CertificateAuthority['profiles']>[0],
  ): Promise<Readonly<Record<string, string>> | undefined> {
    return (await this.#session.directory(options)).profiles;
  }

  async caaIdentities({ signal }: { signal: AbortSignal }): Promise<readonly string[]> {
    return (await this.#session.directory({ signal })).caaIdentities;
  }

  async greet({ signal }: { signal: AbortSignal }): Promise<{ readonly date: Date | undefined }> {
    const { date } = await this.#session.readDirectory({ signal });
    return { date };
  }

  async accountTerms({ signal }: { signal: AbortSignal }): Promise<AccountTerms> {
    const { termsOfService, externalAccountRequired } = await this.#session.directory({ signal });
    return { termsOfService, externalAccountRequired };
  }

  account({ signal }: { signal: AbortSignal }): Promise<Account | undefined> {
    return this.#account.find({ signal });
  }

  updateContact(options: EffectOptions): Promise<Account> {
    return this.#account.updateContact(options);
  }

  changeKey(newKeyPem: string, options: EffectOptions): Promise<void> {
    return this.#account.changeKey(newKeyPem, options);
  }

  deactivateAccount(options: EffectOptions): Promise<void> {
    return this.#account.deactivate(options);
  }

  revoke(request: RevocationRequest, options: EffectOptions): Promise<'revoked' | 'revoked before'> {
    const context = { session: this.#session, account: this.#account };
    return revokeCertificate(request, context, options);
  }

  async newOrder(
    identifiers: readonly string[],
    { replaces, profile, ...options }: Parameters<CertificateAuthority['newOrder']>[1],
  ): Promise<Order> {
    const directory = await this.#session.directory(options);
    const order = async (payload: object) => {
      const request = { resource: 'newOrder', url: directory.newOrder, payload } as const;
      const response = await this.#account.post(request, options);
      return parseOrder(requireLocation(response), response);
    };
    const payload = orderPayload(identifiers, profile);
    if (replaces === undefined || directory.renewalInfo === undefined) return order(payload);
    try {
      return await order({ ...payload, replaces });
    } catch (error) {
      if (!mayRefuseReplaces(error)) throw error;
      this.#log.warn({ identifiers, replaces, err: error }, 'replaces refused: ordering without it');
      return order(payload);
    }
  }

  async order(url: string, { signal }: { signal: AbortSignal }): Promise<Order | undefined> {
    try {
      const response = await this.#account.post({ resource: 'order', url, payload: undefined }, { signal });
      return parseOrder(url, response);
    } catch (error) {
      // The account is looked up on the way: only the order itself may be what is not found.
      if (error instanceof AcmeProblemError && error.status === 404 && error.url === url) return undefined;
      throw error;
    }
  }

  async authorization(url: string, { signal }: { signal: AbortSignal }): Promise<Authorization> {
    const response = await this.#account.post(
      { resource: 'authorization', url, payload: undefined },
      { signal },
    );
    return parseAuthorization(url, response, this.#session.signer);
  }

  async respond(challengeUrl: string, options: EffectOptions): Promise<void> {
    await this.#account.post({ resource: 'challenge', url: challengeUrl, payload: {} }, options);
  }

  awaitAuthorization(url: string, { signal }: { signal: AbortSignal }): Promise<Authorization> {
    const look = async () => {
      const response = await this.#account.post(
        { resource: 'authorization', url, payload: undefined },
        { signal },
      );
      const authorization = await parseAuthorization(url, response, this.#session.signer);
      const settled = authorization.status === 'pending' ? undefined : authorization;
      return { settled, notBefore: response.notBefore };
    };
    const what = `authorization ${url}`;
    return poll(look, { what, clock: this.#clock, firstMs: FIRST_LOOK_MS, signal });
  }

  async finalize(
    order: Order,
    { keyPem, identifiers }: { keyPem: string; identifiers: readonly string[] },
    options: EffectOptions,
  ): Promise<Order> {
    const payload = { csr: certificateRequest(keyPem, identifiers) };
    const response = await this.#account.post(
      { resource: 'finalize', url: order.finalize, payload },
      options,
    );
    const finalized = parseOrder(order.url, response);
    if (finalized.status === 'processing') this.#finalized.set(order.url, response.notBefore);
    return finalized;
  }

  async awaitOrder(url: string, { signal }: { signal: AbortSignal }): Promise<Order> {
    const look = async () => {
      const response = await this.#account.post({ resource: 'order', url, payload: undefined }, { signal });
      const order = parseOrder(url, response);
      const settled = order.status === 'pending' || order.status === 'processing' ? undefined : order;
      return { settled, notBefore: response.notBefore };
    };
    const firstMs = this.#firstLookMs(url);
    this.#finalized.delete(url);
    return poll(look, { what: `order ${url}`, clock: this.#clock, firstMs, signal });
  }

  async certificate(url: string, { signal }: { signal: AbortSignal }): Promise<IssuedChain> {
    const response = await this.#account.post(
      { resource: 'certificate', url, payload: undefined, accept: PEM_CHAIN },
      { signal },
    );
    return { chainPem: parseChain(response), alternates: parseAlternates(response) };
  }

  async renewalInfo(
    certID: string,
    { signal }: { signal: AbortSignal },
  ): Promise<RenewalInfoAnswer | undefined> {
    const { renewalInfo } = await this.#session.directory({ signal });
    if (renewalInfo === undefined) return undefined;
    const url = renewalInfoUrl(renewalInfo, certID);
    return parseRenewalInfo(await this.#session.get({ resource: 'renewalInfo', url }, { signal }));
  }

  /** At once, unless the order was finalized just now: then the CA has begun to work this very moment. */
  #firstLookMs(url: string): number {
    if (!this.#finalized.has(url)) return 0;
    const notBefore = this.#finalized.get(url);
    const askedMs = notBefore === undefined ? 0 : notBefore.getTime() - this.#clock.now().getTime();
    return Math.max(askedMs, FIRST_LOOK_MS);
  }
}

/**
 * CAs have several words for a certificate that cannot be replaced (already, another account's, unknown), so any
 * refusal counts that the next order would not meet all the same. Some call it their own failure (Pebble, for a serial
 * number with a leading zero octet in DER), which no later order that names it would get past.
 */
function mayRefuseReplaces(error: unknown): boolean {
  if (!(error instanceof AcmeProblemError)) return false;
  if (error.code === 'ERR_ACME_RATE_LIMITED' || error.code === 'ERR_ACME_PROFILE') return false;
  if (error.type === 'serverInternal') return error.status === 500;
  return error.status >= 400 && error.status < 500 && error.type !== 'badNonce';
}
