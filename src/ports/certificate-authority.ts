import type { IssuerSpec } from '../domain/model.ts';
import type { RenewalInfoAnswer } from '../domain/renewal-info.ts';
import type { RevocationReason } from '../domain/revocation.ts';
import type { EffectOptions } from './leadership.ts';

/** RFC 8555 section 7.1.3 */
export interface Order {
  readonly url: string;
  readonly status: 'pending' | 'ready' | 'processing' | 'valid' | 'invalid';
  readonly authorizations: readonly string[];
  readonly finalize: string;
  readonly certificate: string | undefined;
  readonly expires: Date | undefined;
  /** The certID that the CA has accepted as replaced by this order (RFC 9773 section 5). */
  readonly replaces: string | undefined;
  /** As the CA has understood it (draft-ietf-acme-profiles section 4); undefined when it says nothing of profiles. */
  readonly profile: string | undefined;
  /** The CA's own words when `invalid`. */
  readonly error: string | undefined;
  /** The types of the problems in it (section 6.7), in their short form. */
  readonly problems?: readonly string[];
}

/** RFC 8555 section 7.1.4, reduced to its http-01 challenge (section 8.3). */
export interface Authorization {
  readonly url: string;
  readonly identifier: string;
  readonly status: 'pending' | 'valid' | 'invalid' | 'deactivated' | 'expired' | 'revoked';
  /** Undefined when the CA offers no http-01 for this identifier. */
  readonly http01:
    | { readonly url: string; readonly token: string; readonly keyAuthorization: string }
    | undefined;
  readonly error: string | undefined;
  /** The types of the problems in it (section 6.7), in their short form. */
  readonly problems?: readonly string[];
  /** What an operator can do about it, by the types of its problems. */
  readonly remedy?: string | undefined;
}

/** One chain of a certificate (RFC 8555 section 7.4.2). */
export interface IssuedChain {
  /** Leaf first. */
  readonly chainPem: string;
  /** Where the CA offers other chains for the same leaf. */
  readonly alternates: readonly string[];
}

/** RFC 8555 section 7.1.2, as the CA tells it. */
export interface Account {
  /** Undefined when the CA only says that it does not serve this key any more. */
  readonly url: string | undefined;
  readonly status: 'valid' | 'deactivated' | 'revoked';
  /** Undefined when the CA keeps them to itself. */
  readonly contact: readonly string[] | undefined;
  readonly orders: string | undefined;
}

/** What a directory says of accounts (section 7.1.1). */
export interface AccountTerms {
  readonly termsOfService: string | undefined;
  readonly externalAccountRequired: boolean;
}

/** What asks for a revocation (section 7.6). */
export interface RevocationRequest {
  /** PEM, leaf first. */
  readonly chainPem: string;
  readonly reason: RevocationReason;
  /** The certificate's own key signs; without it the account does. */
  readonly keyPem?: string | undefined;
}

/**
 * One issuer with one account. Each method is one RFC 8555 exchange (plus polling where it says `await`), so
 * that the caller can store what must not be lost between two of them. All throw `ERR_ACME_*`.
 */
export interface CertificateAuthority {
  /** Finds the account of this key or creates it (section 7.3); resolves to its URL. Idempotent. */
  ensureAccount(options: EffectOptions): Promise<string>;
  /** The names by which CAA records know this CA (section 9.7.6); empty when it does not tell. Needs no account. */
  caaIdentities(options: { signal: AbortSignal }): Promise<readonly string[]>;
  /** Reads the directory anew; `date` is the CA's clock, to the second (RFC 9110 section 6.6.1), where it tells it. */
  greet(options: { signal: AbortSignal }): Promise<{ readonly date: Date | undefined }>;
  accountTerms(options: { signal: AbortSignal }): Promise<AccountTerms>;
  /** The account of this key (section 7.3.1); undefined when the CA does not know it. Creates none. */
  account(options: { signal: AbortSignal }): Promise<Account | undefined>;
  /** Section 7.3.2: gives the account the contacts of the configuration. */
  updateContact(options: EffectOptions): Promise<Account>;
  /** Section 7.3.5: from now on the account has the key `newKeyPem`, and this connection is of no use any more. */
  changeKey(newKeyPem: string, options: EffectOptions): Promise<void>;
  /** Section 7.3.6. Cannot be taken back. */
  deactivateAccount(options: EffectOptions): Promise<void>;
  /** Section 7.6. Registers no account for it. What was revoked before is told, and no error. */
  revoke(request: RevocationRequest, options: EffectOptions): Promise<'revoked' | 'revoked before'>;
  /**
   * The profiles that the CA offers (draft-ietf-acme-profiles section 3), descriptions by name; undefined when it knows
   * none. Needs no account. Up to a day old unless `fresh`.
   */
  profiles(options: {
    readonly signal: AbortSignal;
    readonly fresh?: boolean;
  }): Promise<Readonly<Record<string, string>> | undefined>;
  /**
   * Section 7.4. Never repeated by the transport. `replaces` is the certID of the certificate that is renewed, sent
   * where the CA offers renewal information; when the CA refuses the order with it, one without it is sent.
   */
  newOrder(
    identifiers: readonly string[],
    options: EffectOptions & {
      readonly replaces?: string | undefined;
      /** `ERR_ACME_PROFILE` when the CA does not let it be used for these identifiers. */
      readonly profile?: string | undefined;
    },
  ): Promise<Order>;
  /** Undefined when the CA no longer knows it (HTTP 404); any other failure may pass and is thrown. */
  order(url: string, options: { signal: AbortSignal }): Promise<Order | undefined>;
  authorization(url: string, options: { signal: AbortSignal }): Promise<Authorization>;
  /** Section 7.5.1: tells the CA that the challenge can be fetched. */
  respond(challengeUrl: string, options: EffectOptions): Promise<void>;
  /** Polls, obeying Retry-After, until it is no longer pending. */
  awaitAuthorization(url: string, options: { signal: AbortSignal }): Promise<Authorization>;
  /** Section 7.4: makes the request for `identifiers` with `keyPem`, sends it. Never repeated by the transport. */
  finalize(
    order: Order,
    request: { keyPem: string; identifiers: readonly string[] },
    options: EffectOptions,
  ): Promise<Order>;
  /** Polls, obeying Retry-After, until the order is no longer `pending` or `processing`. */
  awaitOrder(url: string, options: { signal: AbortSignal }): Promise<Order>;
  /** Section 7.4.2 */
  certificate(url: string, options: { signal: AbortSignal }): Promise<IssuedChain>;
  /**
   * When the CA suggests to renew the certificate of this certID (RFC 9773 section 4.1); needs no account. Undefined
   * when the CA offers no renewal information.
   */
  renewalInfo(certID: string, options: { signal: AbortSignal }): Promise<RenewalInfoAnswer | undefined>;
}

export type ConnectCertificateAuthority = (
  issuer: IssuerSpec,
  accountKeyPem: string,
) => Promise<CertificateAuthority>;
