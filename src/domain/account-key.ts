import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { KacmeError } from './errors.ts';

/** The members that RFC 7638 section 3.2 counts, in its order. */
type AccountJwk =
  | { readonly crv: string; readonly kty: 'EC'; readonly x: string; readonly y: string }
  | { readonly e: string; readonly kty: 'RSA'; readonly n: string };

/** What may be known of an account's key. */
export interface AccountKeyFacts {
  /** Such as `ecdsa-p256` or `rsa-4096`. */
  readonly type: string;
  /** RFC 7638 with SHA-256, base64url: the second half of every key authorization (RFC 8555 section 8.1). */
  readonly thumbprint: string;
  readonly jwk: AccountJwk;
}

/** Throws `ERR_ACCOUNT_KEY` for what cannot sign as an account; no message quotes the key. */
export function accountKeyFacts(keyPem: string): AccountKeyFacts {
  const key = parse(keyPem);
  const { kty, crv = '', x = '', y = '', e = '', n = '' } = createPublicKey(key).export({ format: 'jwk' });
  const jwk: AccountJwk | undefined =
    kty === 'EC' ? { crv, kty, x, y } : kty === 'RSA' ? { e, kty, n } : undefined;
  const type = jwk && typeOf(key, jwk);
  if (jwk === undefined || type === undefined)
    throw unusable(`it is of type ${crv === '' ? kty : `${kty} ${crv}`}, which accounts do not have`);
  return { type, jwk, thumbprint: createHash('sha256').update(JSON.stringify(jwk)).digest('base64url') };
}

/** The same key as PKCS #8, in which form kacme stores keys. Throws `ERR_ACCOUNT_KEY`. */
export function toPkcs8(keyPem: string): string {
  return parse(keyPem).export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** At least this much is asked by every CA (RFC 8555 section 6.2 leaves it to them). */
const SHORTEST_RSA_BITS = 2048;

function typeOf(key: KeyObject, jwk: AccountJwk): string | undefined {
  if (jwk.kty === 'EC') {
    return { 'P-256': 'ecdsa-p256', 'P-384': 'ecdsa-p384' }[jwk.crv];
  }
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (bits < SHORTEST_RSA_BITS) throw unusable(`it has ${bits} bits, and CAs want ${SHORTEST_RSA_BITS}`);
  return `rsa-${bits}`;
}

function parse(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    // The parser's message could quote the key: it is left out.
    throw unusable(
      /ENCRYPTED/.test(pem)
        ? 'it is protected by a passphrase'
        : 'it cannot be parsed as a private key in PEM',
    );
  }
}

function unusable(reason: string): KacmeError {
  return new KacmeError('ERR_ACCOUNT_KEY', `cannot use the account key: ${reason}`, {
    retry: 'never',
    remedy:
      'give an ECDSA key (P-256 or P-384) or an RSA key (2048 bits or more) in PEM, without a passphrase, as lego (accounts/*/keys) keeps it',
  });
}
