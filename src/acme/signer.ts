import { createHmac, createPrivateKey, sign } from 'node:crypto';
import { type AccountKeyFacts, accountKeyFacts } from '../domain/account-key.ts';
import { KacmeError, reportError } from '../domain/errors.ts';

/** How a request says who sends it (RFC 8555 section 6.2): by account URL, or by the key itself when it has none. */
export type Sender = { readonly kid: string } | 'jwk';

/** JSON Web Signatures of one account key. Nothing leaves the process. */
export interface AcmeSigner {
  /**
   * The body of a request; without a payload it is a POST-as-GET (section 6.3). Only what is carried within another
   * request has no nonce (section 7.3.5).
   */
  sign(
    url: string,
    payload: object | undefined,
    header: { nonce: string | undefined; sender: Sender },
  ): string;
  /** The public key (RFC 7517). */
  readonly jwk: object;
  /** Section 7.3.4; `hmacKey` is base64url, as CAs hand it out. */
  externalAccountBinding(url: string, keyId: string, hmacKey: string): object;
  /** Section 8.1. */
  keyAuthorization(token: string): string;
}

/**
 * An account key is ECDSA P-256 or P-384, or RSA (RFC 7518 section 3.1). Throws `ERR_STORE_CORRUPT` when it cannot be
 * parsed or is of another kind.
 */
export function createSigner(accountKeyPem: string): AcmeSigner {
  const { jwk, thumbprint, type } = storedKeyFacts(accountKeyPem);
  const key = createPrivateKey(accountKeyPem);
  const { alg, hash } = HASHES[type] ?? RSA;
  return {
    jwk,
    sign: (url, payload, { nonce, sender }) => {
      const identity = sender === 'jwk' ? { jwk } : { kid: sender.kid };
      const input = signingInput({ alg, url, nonce, ...identity }, payload);
      // RFC 7518 section 3.4: both numbers one after the other, not the ASN.1 that OpenSSL makes.
      const signature = sign(hash, Buffer.from(input.text), { key, dsaEncoding: 'ieee-p1363' });
      return JSON.stringify({ ...input.parts, signature: signature.toString('base64url') });
    },
    externalAccountBinding: (url, keyId, hmacKey) => {
      const input = signingInput({ alg: 'HS256', url, kid: keyId }, jwk);
      const mac = createHmac('sha256', Buffer.from(hmacKey, 'base64url')).update(input.text);
      return { ...input.parts, signature: mac.digest('base64url') };
    },
    keyAuthorization: (token) => `${token}.${thumbprint}`,
  };
}

/** RFC 7515 section 5.1, flattened: what is signed, and the members of the result. */
function signingInput(header: object, payload: object | undefined) {
  const parts = { protected: encode(header), payload: payload === undefined ? '' : encode(payload) };
  return { parts, text: `${parts.protected}.${parts.payload}` };
}

const encode = (document: object): string => Buffer.from(JSON.stringify(document)).toString('base64url');

const HASHES: Readonly<Record<string, { readonly alg: string; readonly hash: string }>> = {
  'ecdsa-p256': { alg: 'ES256', hash: 'sha256' },
  'ecdsa-p384': { alg: 'ES384', hash: 'sha384' },
};
const RSA = { alg: 'RS256', hash: 'sha256' };

function storedKeyFacts(pem: string): AccountKeyFacts {
  try {
    return accountKeyFacts(pem);
  } catch (error) {
    throw new KacmeError('ERR_STORE_CORRUPT', reportError(error).message, {
      retry: 'never',
      remedy: 'restore the store from a backup, or remove the account so that kacme registers another one',
    });
  }
}
