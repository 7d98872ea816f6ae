import { createPrivateKey, type KeyObject } from 'node:crypto';
import ssh2, { type ParsedKey } from 'ssh2';
import { KacmeError } from '../domain/errors.ts';
import type { SecretRef } from '../domain/model.ts';

/** Resolves a secret. Throws `ERR_SECRET_UNREADABLE`; injected, since adapters do not know the configuration. */
export type ReadSecret = (ref: SecretRef, options: { signal: AbortSignal }) => Promise<string>;

export const secretName = (ref: SecretRef): string => ('file' in ref ? ref.file : `$${ref.env}`);

/** The private key to log in with. Throws `ERR_SECRET_UNREADABLE`; no message quotes the key. */
export async function readIdentity(
  ref: SecretRef,
  readSecret: ReadSecret,
  { signal }: { signal: AbortSignal },
): Promise<ParsedKey> {
  const text = await readSecret(ref, { signal });
  if (text.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----')) throw encrypted(ref);
  const parsed = ssh2.utils.parseKey(withoutPkcs8(text) ?? text);
  // A multi-key file is parsed into an array, which the library's types leave out.
  const key = Array.isArray(parsed) ? (parsed[0] as ParsedKey | Error) : parsed;
  if (key instanceof Error) {
    // The parser's own words are left out: nobody promises that they never quote the key.
    throw /encrypted/i.test(key.message)
      ? encrypted(ref)
      : unusable(ref, 'it is not a private key SSH knows');
  }
  if (!key.isPrivateKey()) throw unusable(ref, 'it is a public key: the private one is needed');
  return key;
}

/**
 * The same key in the older form of its type, which ssh2 knows; undefined when it is not in PKCS #8 (RFC 5958), or of a type
 * that has no older form. kolla-genpwd writes PKCS #8, and so does `openssl genpkey`.
 */
function withoutPkcs8(text: string): string | undefined {
  if (!text.includes('-----BEGIN PRIVATE KEY-----')) return undefined;
  const key = privateKeyOf(text);
  if (key?.asymmetricKeyType === 'rsa') return key.export({ type: 'pkcs1', format: 'pem' }).toString();
  if (key?.asymmetricKeyType === 'ec') return key.export({ type: 'sec1', format: 'pem' }).toString();
  return undefined;
}

function privateKeyOf(text: string): KeyObject | undefined {
  try {
    return createPrivateKey(text);
  } catch {
    // Whoever asked says what is expected; this error may quote what it read.
    return undefined;
  }
}

const encrypted = (ref: SecretRef): KacmeError =>
  new KacmeError(
    'ERR_SECRET_UNREADABLE',
    `read SSH identity ${secretName(ref)}: it is protected by a passphrase`,
    {
      retry: 'never',
      remedy:
        'nobody is there to type it: make a key of its own for kacme without one (ssh-keygen -t ed25519 -N "")',
    },
  );

const unusable = (ref: SecretRef, reason: string): KacmeError =>
  new KacmeError('ERR_SECRET_UNREADABLE', `read SSH identity ${secretName(ref)}: ${reason}`, {
    retry: 'never',
    remedy:
      'expected an OpenSSH private key, as ssh-keygen -t ed25519 makes it (ssh-keygen -p converts others)',
  });
