import * as z from 'zod';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec, SecretRef } from '../domain/model.ts';
import type { EffectOptions, Mandate } from '../ports/leadership.ts';
import type { Directory } from './directory.ts';
import { parseDocument, requireLocation } from './document.ts';
import { AcmeProblemError } from './problem.ts';
import type { AcmeSession, SignedRequest } from './session.ts';
import type { AcmeResponse } from './transport.ts';

const accountSchema = z.object({
  status: z.enum(['valid', 'deactivated', 'revoked']).default('valid'),
  contact: z.array(z.string()).optional(),
});

export type ReadSecret = (ref: SecretRef, options: { signal: AbortSignal }) => Promise<string>;

export interface AcmeAccountOptions {
  readonly issuer: IssuerSpec;
  readonly session: AcmeSession;
  readonly readSecret: ReadSecret;
}

/** The account of one key at one CA (RFC 8555 section 7.1.2); its URL is what signs every other request. */
export class AcmeAccount {
  readonly #options: AcmeAccountOptions;
  #url: string | undefined;
  #registering: Promise<string> | undefined;

  constructor(options: AcmeAccountOptions) {
    this.#options = options;
  }

  /**
   * Section 7.3: the CA answers for a key that it knows with the account that exists. Asked once, then remembered
   * until the CA says that it does not know the account. Throws `ERR_ACME_TERMS` when the terms are not agreed to.
   */
  async ensure(options: EffectOptions): Promise<string> {
    if (this.#url !== undefined) return this.#url;
    this.#registering ??= this.#register(options);
    try {
      this.#url = await this.#registering;
      return this.#url;
    } finally {
      this.#registering = undefined;
    }
  }

  /** Finds the account without creating one (section 7.3.1). */
  async url({ signal }: { signal: AbortSignal }): Promise<string> {
    this.#url ??= await this.#find({ signal });
    return this.#url;
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

  async #find({ signal }: { signal: AbortSignal }): Promise<string> {
    const { session } = this.#options;
    const { newAccount } = await session.directory({ signal });
    const payload = { onlyReturnExisting: true };
    const response = await session.post(
      { resource: 'newAccount', url: newAccount, payload, sender: 'jwk' },
      { signal },
    );
    return requireLocation(response);
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
      !sameSet(account.contact, issuer.contact)
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

function unusableAccount(issuer: IssuerSpec, url: string, status: string): KacmeError {
  return new KacmeError('ERR_ACME_PROBLEM', `issuer ${issuer.name}: account ${url} is ${status} at the CA`, {
    retry: 'never',
    remedy: "remove this issuer's account from the store, so that kacme registers another one with a new key",
  });
}

const sameSet = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((item) => b.includes(item));
