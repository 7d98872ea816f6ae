import * as z from 'zod';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec, SecretRef } from '../domain/model.ts';
import { sameNames } from '../domain/same-names.ts';
import type { Account } from '../ports/certificate-authority.ts';
import type { EffectOptions, Mandate } from '../ports/leadership.ts';
import type { Directory } from './directory.ts';
import { parseDocument, requireLocation } from './document.ts';
import { AcmeProblemError } from './problem.ts';
import type { AcmeSession, SignedRequest } from './session.ts';
import { createSigner } from './signer.ts';
import type { AcmeResponse } from './transport.ts';

const accountSchema = z.object({
  status: z.enum(['valid', 'deactivated', 'revoked']).default('valid'),
  contact: z.array(z.string()).optional(),
  orders: z.string().optional(),
});

export type ReadSecret = (ref: SecretRef, options: { signal: AbortSignal }) => Promise<string>;

export interface AcmeAccountOptions {
  readonly issuer: IssuerSpec;
  readonly session: AcmeSession;
  readonly readSecret: ReadSecret;
}

/** The account of one key at one CA (RFC 8555 section 7.1.2); its URL is what signs every other request. */
export class AcmeAccount {
  readonly issuer: IssuerSpec;
  readonly #options: AcmeAccountOptions;
  #url: string | undefined;
  #registering: { readonly url: Promise<string>; readonly signal: AbortSignal } | undefined;

  constructor(options: AcmeAccountOptions) {
    this.#options = options;
    this.issuer = options.issuer;
  }

  /**
   * Section 7.3: the CA answers for a key that it knows with the account that exists. Asked once, then remembered
   * until the CA says that it does not know the account. Throws `ERR_ACME_TERMS` when the terms are not agreed to.
   */
  async ensure(options: EffectOptions): Promise<string> {
    if (this.#url !== undefined) return this.#url;
    const registering = this.#registering ?? { url: this.#register(options), signal: options.signal };
    this.#registering = registering;
    try {
      this.#url = await registering.url;
      return this.#url;
    } catch (error) {
      // Whoever began it was cancelled: that is nobody else's failure.
      if (!registering.signal.aborted || options.signal.aborted) throw error;
    } finally {
      if (this.#registering === registering) this.#registering = undefined;
    }
    return this.ensure(options);
  }

  /** Finds the account without creating one (section 7.3.1). */
  async url({ signal }: { signal: AbortSignal }): Promise<string> {
    this.#url ??= requireLocation(await this.#lookUp({ signal }));
    return this.#url;
  }

  /** What the CA knows of the account; undefined when it does not know its key. Creates none. */
  async find({ signal }: { signal: AbortSignal }): Promise<Account | undefined> {
    try {
      const response = await this.#lookUp({ signal });
      return readAccount(requireLocation(response), response);
    } catch (error) {
      if (!(error instanceof AcmeProblemError)) throw error;
      if (error.type === 'accountDoesNotExist') return undefined;
      // Section 7.3.6: whatever a deactivated account asks is refused so, this question included.
      if (error.type === 'unauthorized')
        return { url: undefined, status: 'deactivated', contact: undefined, orders: undefined };
      throw error;
    }
  }

  /** Section 7.3.2. */
  async updateContact(options: EffectOptions): Promise<Account> {
    const { contact } = this.#options.issuer;
    return this.#change({ contact }, options);
  }

  /** Section 7.3.6. */
  async deactivate(options: EffectOptions): Promise<void> {
    await this.#change({ status: 'deactivated' }, options);
    this.#url = undefined;
  }

  /** Section 7.3.5: the request of the old key carries one of the new key, which proves that both are ours. */
  async changeKey(newKeyPem: string, { signal, mandate }: EffectOptions): Promise<void> {
    const { session, issuer } = this.#options;
    const { keyChange } = await session.directory({ signal });
    if (keyChange === undefined) throw notOffered(issuer, 'change the key of an account', 'keyChange');
    const account = await this.url({ signal });
    const oldKey = session.signer.jwk;
    const inner = createSigner(newKeyPem).sign(
      keyChange,
      { account, oldKey },
      { nonce: undefined, sender: 'jwk' },
    );
    const payload = JSON.parse(inner) as object;
    const beforeSend = () => mandate.assertHeld();
    await session.post(
      { resource: 'keyChange', url: keyChange, payload, sender: { kid: account }, beforeSend },
      { signal },
    );
  }

  async #change(payload: object, { signal, mandate }: EffectOptions): Promise<Account> {
    const url = await this.url({ signal });
    const beforeSend = () => mandate.assertHeld();
    const response = await this.#options.session.post(
      { resource: 'account', url, payload, sender: { kid: url }, beforeSend },
      { signal },
    );
    return readAccount(url, response);
  }

  /** A request signed as this account; `mandate` makes it an effect. */
  async post(
    request: Omit<SignedRequest, 'sender' | 'beforeSend'>,
    { signal, mandate }: { signal: AbortSignal; mandate?: Mandate },
  ): Promise<AcmeResponse> {
    const kid = mandate === undefined ? await this.url({ signal }) : await this.ensure({ signal, mandate });
    try {
      const beforeSend = () => mandate?.assertHeld();
      return await this.#options.session.post({ ...request, sender: { kid }, beforeSend }, { signal });
    } catch (error) {
      // A CA restored from a backup, say. The next effect registers again.
      if (error instanceof AcmeProblemError && error.type === 'accountDoesNotExist') this.#url = undefined;
      throw error;
    }
  }

  async #lookUp({ signal }: { signal: AbortSignal }): Promise<AcmeResponse> {
    const { session } = this.#options;
    const { newAccount } = await session.directory({ signal });
    const payload = { onlyReturnExisting: true };
    return session.post({ resource: 'newAccount', url: newAccount, payload, sender: 'jwk' }, { signal });
  }

  async #register({ signal, mandate }: EffectOptions): Promise<string> {
    const { session, issuer } = this.#options;
    const directory = await session.directory({ signal });
    requireTerms(issuer, directory);
    const payload = {
      termsOfServiceAgreed: issuer.termsOfServiceAgreed,
      contact: issuer.contact,
      ...(await this.#externalAccountBinding(directory, { signal })),
    };
    const beforeSend = () => mandate.assertHeld();
    const response = await session.post(
      { resource: 'newAccount', url: directory.newAccount, payload, sender: 'jwk', beforeSend },
      { signal },
    );
    const url = requireLocation(response);
    const account = parseDocument(accountSchema, response);
    if (account.status !== 'valid') throw unusableAccount(issuer, url, account.status);
    // Some CAs keep contacts to themselves: only an answer with others is a reason to send ours.
    if (
      response.status === 200 &&
      account.contact !== undefined &&
      !sameNames(account.contact, issuer.contact)
    ) {
      const update = { contact: issuer.contact };
      await session.post(
        { resource: 'account', url, payload: update, sender: { kid: url }, beforeSend },
        { signal },
      );
    }
    return url;
  }

  async #externalAccountBinding(
    { newAccount }: Directory,
    { signal }: { signal: AbortSignal },
  ): Promise<object> {
    const { issuer, readSecret, session } = this.#options;
    if (issuer.eab === undefined) return {};
    const { keyId, hmacKey } = issuer.eab;
    const secret = (await readSecret(hmacKey, { signal })).trim();
    return { externalAccountBinding: session.signer.externalAccountBinding(newAccount, keyId, secret) };
  }
}

function requireTerms(issuer: IssuerSpec, { termsOfService }: Directory): void {
  if (termsOfService === undefined || issuer.termsOfServiceAgreed) return;
  throw new KacmeError(
    'ERR_ACME_TERMS',
    `issuer ${issuer.name}: an account needs agreement to the CA's terms of service, ${termsOfService}`,
    { retry: 'never', remedy: `read them, then set issuers.${issuer.name}.termsOfServiceAgreed: true` },
  );
}

function readAccount(url: string, response: AcmeResponse): Account {
  const { status, contact, orders } = parseDocument(accountSchema, response);
  return { url, status, contact, orders };
}

function unusableAccount(issuer: IssuerSpec, url: string, status: string): KacmeError {
  return new KacmeError(
    'ERR_ACCOUNT_CLOSED',
    `issuer ${issuer.name}: account ${url} is ${status} at the CA`,
    {
      retry: 'never',
      remedy: `kacme account register ${issuer.name} makes another account with a new key`,
    },
  );
}

/** A CA leaves out of its directory what it does not offer, though RFC 8555 section 7.1.1 asks for it. */
export function notOffered(issuer: IssuerSpec, what: string, resource: string): KacmeError {
  return new KacmeError(
    'ERR_ACME_MALFORMED',
    `issuer ${issuer.name}: cannot ${what}: the CA's directory (${issuer.directory}) names no ${resource}`,
    { retry: 'never', remedy: 'ask the CA how it is done there' },
  );
}
