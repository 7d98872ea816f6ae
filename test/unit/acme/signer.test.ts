import { createHash, createHmac, createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { createSigner } from '../../../src/acme/signer.ts';
import type { KeyType } from '../../../src/domain/model.ts';
import { createPki } from '../../../src/pki/pki.ts';

const pki = createPki();
const decode = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString());

describe('a signed request', () => {
  test.each<{ type: KeyType; alg: string; hash: string }>([
    { type: 'ecdsa-p256', alg: 'ES256', hash: 'sha256' },
    { type: 'ecdsa-p384', alg: 'ES384', hash: 'sha384' },
    { type: 'rsa-2048', alg: 'RS256', hash: 'sha256' },
  ])('verifies with an account key of type $type and carries nonce, URL and account', async (row) => {
    const keyPem = await pki.generateKey(row.type);
    const header = { nonce: 'n1', sender: { kid: 'https://ca.test/acct/1' } };
    const jws = JSON.parse(createSigner(keyPem).sign('https://ca.test/order', { a: 1 }, header));
    expect(decode(jws.protected)).toEqual({
      alg: row.alg,
      url: 'https://ca.test/order',
      nonce: 'n1',
      kid: 'https://ca.test/acct/1',
    });
    expect(decode(jws.payload)).toEqual({ a: 1 });
    const key = { key: createPublicKey(keyPem), dsaEncoding: 'ieee-p1363' } as const;
    const signed = Buffer.from(`${jws.protected}.${jws.payload}`);
    expect(verify(row.hash, signed, key, Buffer.from(jws.signature, 'base64url'))).toBe(true);
  });

  test('has an empty payload as a POST-as-GET, and the public key when there is no account', async () => {
    const signer = createSigner(await pki.generateKey('ecdsa-p256'));
    const jws = JSON.parse(signer.sign('https://ca.test/order/1', undefined, { nonce: 'n1', sender: 'jwk' }));
    expect(jws.payload).toBe('');
    expect(Object.keys(decode(jws.protected).jwk)).toEqual(['crv', 'kty', 'x', 'y']);
  });
});

test('an external account binding signs the account key with the HMAC key of the CA', async () => {
  const keyPem = await pki.generateKey('ecdsa-p256');
  const hmacKey = Buffer.from('a secret of 32 bytes, or so it is').toString('base64url');
  const binding = createSigner(keyPem).externalAccountBinding('https://ca.test/account', 'kid-1', hmacKey);
  expect(binding).toEqual({
    protected: expect.any(String),
    payload: expect.any(String),
    signature: expect.any(String),
  });
  const jws = binding as Readonly<Record<'protected' | 'payload' | 'signature', string>>;
  expect(decode(jws.protected)).toEqual({ alg: 'HS256', url: 'https://ca.test/account', kid: 'kid-1' });
  expect(decode(jws.payload)).toEqual(createPublicKey(keyPem).export({ format: 'jwk' }));
  const mac = createHmac('sha256', Buffer.from(hmacKey, 'base64url'));
  expect(jws.signature).toBe(mac.update(`${jws.protected}.${jws.payload}`).digest('base64url'));
});

describe('a key authorization is the token and the thumbprint of the account key', () => {
  test('(RFC 7638) of an RSA key', async () => {
    const keyPem = await pki.generateKey('rsa-2048');
    const { e, kty, n } = createPublicKey(keyPem).export({ format: 'jwk' });
    const thumbprint = createHash('sha256').update(JSON.stringify({ e, kty, n })).digest('base64url');
    expect(createSigner(keyPem).keyAuthorization('abc')).toBe(`abc.${thumbprint}`);
  });

  test('of an ECDSA key too', async () => {
    const keyPem = await pki.generateKey('ecdsa-p256');
    const { crv, kty, x, y } = createPublicKey(keyPem).export({ format: 'jwk' });
    const thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
    expect(createSigner(keyPem).keyAuthorization('abc')).toBe(`abc.${thumbprint}`);
  });
});

test.each([
  {
    what: 'cannot be parsed',
    pem: '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n',
    says: 'cannot be parsed',
  },
  {
    what: 'is of another kind',
    pem: generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    says: 'of type OKP',
  },
])('an account key that $what is reported without quoting it', ({ pem, says }) => {
  let failure: unknown;
  try {
    createSigner(pem);
  } catch (error) {
    failure = error;
  }
  expect(failure).toMatchObject({
    code: 'ERR_STORE_CORRUPT',
    retry: 'never',
    message: expect.stringContaining(says),
  });
  expect(inspect(failure)).not.toContain(pem.split('\n')[1]);
});
