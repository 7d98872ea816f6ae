import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { isIP } from 'node:net';
import { KacmeError } from '../domain/errors.ts';
import { bitString, der, NULL, objectIdentifier, octetString, sequence, set } from './der.ts';

/**
 * A PKCS #10 request (RFC 2986) for these identifiers as subjectAltName, with an empty subject: base64url DER, as
 * finalize takes it (RFC 8555 section 7.4). `keyPem` is a PKCS #8 key, RSA or ECDSA. Throws `ERR_ACME_ORDER` for an
 * identifier that has no place in a request.
 */
export function certificateRequest(keyPem: string, identifiers: readonly string[]): string {
  const key = createPrivateKey(keyPem);
  const info = sequence(
    der(0x02, Buffer.from([0])), // version 1
    sequence(), // subject
    createPublicKey(key).export({ type: 'spki', format: 'der' }),
    der(0xa0, extensionRequest(identifiers)),
  );
  const { algorithm, hash } = signatureOf(key);
  return sequence(info, algorithm, bitString(sign(hash, info, key))).toString('base64url');
}

/** RFC 2985 section 5.4.2, with one extension: subjectAltName, critical since the subject is empty (RFC 5280). */
function extensionRequest(identifiers: readonly string[]): Buffer {
  const subjectAltName = sequence(
    objectIdentifier('2.5.29.17'),
    der(0x01, Buffer.from([0xff])),
    octetString(sequence(...identifiers.map(generalName))),
  );
  return sequence(objectIdentifier('1.2.840.113549.1.9.14'), set(sequence(subjectAltName)));
}

/** RFC 5280 section 4.2.1.6: dNSName is an IA5String, iPAddress the bytes in network order. */
function generalName(identifier: string): Buffer {
  if (isIP(identifier) !== 0) return der(0x87, addressBytes(identifier));
  if (/^[\x21-\x7e]+$/.test(identifier)) return der(0x82, Buffer.from(identifier, 'ascii'));
  throw new KacmeError('ERR_ACME_ORDER', `"${identifier}" cannot be written into a certificate request`, {
    retry: 'never',
    remedy: "correct the certificate's identifiers: names are written as A-labels (xn--...)",
  });
}

function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  // The URL parser knows every spelling of an IPv6 address and gives the one of RFC 5952.
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':'));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** The hash fits the strength of the key: P-384 signs with SHA-384 (RFC 5758 section 3.2, RFC 4055 section 5). */
function signatureOf(key: KeyObject): { algorithm: Buffer; hash: string } {
  if (key.asymmetricKeyType === 'rsa') {
    return { algorithm: sequence(objectIdentifier('1.2.840.113549.1.1.11'), NULL), hash: 'sha256' };
  }
  if (key.asymmetricKeyDetails?.namedCurve === 'secp384r1') {
    return { algorithm: sequence(objectIdentifier('1.2.840.10045.4.3.3')), hash: 'sha384' };
  }
  return { algorithm: sequence(objectIdentifier('1.2.840.10045.4.3.2')), hash: 'sha256' };
}
