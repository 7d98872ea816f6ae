import { createHash, createHmac, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
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
  keyAuthorization(token: string): string;
}

/**
 * An account key is ECDSA P-256 or P-384, or RSA (RFC 7518 section 3.1). Throws `ERR_STORE_CORRUPT` when it cannot be
 * parsed or is of another kind.
 */
export function createSigner(accountKeyPem: string): AcmeSigner {
  const key = parseAccountKey(accountKeyPem);
  const jwk = publicJwk(key);
  const { alg, hash } = algorithmOf(jwk);
  const thumbprint = createHash('sha256').update(JSON.stringify(jwk)).digest('base64url');
  return {
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

type PublicJwk =
  | { readonly crv: string; readonly kty: 'EC'; readonly x: string; readonly y: string }
  | { readonly e: string; readonly kty: 'RSA'; readonly n: string };

/** The members that RFC 7638 section 3.2 counts, in its order: the thumbprint is a hash of this very text. */
function publicJwk(key: KeyObject): PublicJwk {
  const { kty, crv = '', x = '', y = '', e = '', n = '' } = createPublicKey(key).export({ format: 'jwk' });
  if (kty === 'EC') return { crv, kty, x, y };
  if (kty === 'RSA') return { e, kty, n };
  throw unusableKey(`it is of type ${kty}, and accounts have ECDSA or RSA keys`);
}

function algorithmOf(jwk: PublicJwk): { alg: string; hash: string } {
  if (jwk.kty === 'RSA') return { alg: 'RS256', hash: 'sha256' };
  if (jwk.crv === 'P-256') return { alg: 'ES256', hash: 'sha256' };
  if (jwk.crv === 'P-384') return { alg: 'ES384', hash: 'sha384' };
  throw unusableKey(`its curve is ${jwk.crv}, and accounts have P-256 or P-384`);
}

function parseAccountKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    // The parser's message could quote the key: it is left out.
    throw unusableKey('it cannot be parsed');
  }
}

function unusableKey(why: string): KacmeError {
  return new KacmeError('ERR_STORE_CORRUPT', `the stored account key cannot be used: ${why}`, {
    retry: 'never',
    remedy: 'restore the store from a backup, or remove the account so that kacme registers another one',
  });
}
