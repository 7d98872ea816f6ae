import { createPrivateKey } from 'node:crypto';
import { isIP } from 'node:net';
import { KacmeError } from '../domain/errors.ts';

/** How a request says who sends it (RFC 8555 section 6.2): by account URL, or by the key itself when it has none. */
export type Sender = { readonly kid: string } | 'jwk';

/** JSON Web Signatures of one account key. Nothing leaves the process. */
export interface AcmeSigner {
  /** The body of a request; without a payload it is a POST-as-GET (section 6.3). */
  sign(url: string, payload: object | undefined, header: { nonce: string; sender: Sender }): string;
  /** Section 7.3.4; `hmacKey` is base64url, as CAs hand it out. */
  externalAccountBinding(url: string, keyId: string, hmacKey: string): object;
  /** Section 8.1. */
  keyAuthorization(token: string): Promise<string>;
}

/**
 * The part of acme-client that its types leave out. It signs and nothing more: its own exchange with the CA
 * cannot be aborted, has no timeout, and shares trust and retries over the whole process.
 */
interface JwsCore {
  getJwk(): object;
  createSignedBody(
    url: string,
    payload: object | null,
    header: { nonce: string; kid: string | null },
  ): object;
  createSignedHmacBody(hmacKey: string, url: string, payload: object, header: { kid: string }): object;
}

/** Throws `ERR_STORE_CORRUPT` when the account key cannot be parsed. */
export async function loadSigner(directoryUrl: string, accountKeyPem: string): Promise<AcmeSigner> {
  requireKey(accountKeyPem);
  const { Client } = await import('acme-client');
  const client = new Client({ directoryUrl, accountKey: accountKeyPem });
  const { http } = client as unknown as { http: JwsCore };
  return {
    sign: (url, payload, { nonce, sender }) => {
      const kid = sender === 'jwk' ? null : sender.kid;
      return JSON.stringify(http.createSignedBody(url, payload ?? null, { nonce, kid }));
    },
    externalAccountBinding: (url, keyId, hmacKey) =>
      http.createSignedHmacBody(hmacKey, url, http.getJwk(), { kid: keyId }),
    keyAuthorization: (token) =>
      client.getChallengeKeyAuthorization({ type: 'http-01', token, url: '', status: 'pending' }),
  };
}

function requireKey(pem: string): void {
  try {
    createPrivateKey(pem);
  } catch {
    // The parser's message could quote the key: it is left out.
    throw new KacmeError('ERR_STORE_CORRUPT', 'the stored account key cannot be parsed', {
      retry: 'never',
      remedy: 'restore the store from a backup, or remove the account so that kacme registers another one',
    });
  }
}

/**
 * A PKCS #10 request for these identifiers as subjectAltName, without a common name (base64url DER, RFC 8555
 * section 7.4). `keyPem` is a PKCS #8 key, RSA or ECDSA.
 */
export async function certificateRequest(keyPem: string, identifiers: readonly string[]): Promise<string> {
  const { crypto } = await import('acme-client');
  const [, csr] = await crypto.createCsr({ altNames: [...identifiers] }, keyPem);
  const named = crypto.readCsrDomains(csr).altNames.map(canonical).sort();
  const wanted = identifiers.map(canonical).sort();
  if (named.join() !== wanted.join()) {
    throw new KacmeError(
      'ERR_ACME_ORDER',
      `the certificate request says ${named.join(', ')} where it should say ${wanted.join(', ')}`,
      {
        retry: 'never',
        remedy: "correct the certificate's identifiers: they cannot be written into a request",
      },
    );
  }
  return crypto.getPemBodyAsB64u(csr);
}

/** One spelling for each identifier: an IPv6 address has many (RFC 5952). */
const canonical = (identifier: string): string =>
  isIP(identifier) === 6 ? new URL(`http://[${identifier}]`).hostname.slice(1, -1) : identifier.toLowerCase();
