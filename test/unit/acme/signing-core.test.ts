import { createHash, createPublicKey, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { certificateRequest, loadSigner } from '../../../src/acme/signing-core.ts';
import type { KeyType } from '../../../src/domain/model.ts';
import { createPki } from '../../../src/pki/pki.ts';

const pki = createPki();
const decode = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString());

describe('a signed request', () => {
  test('verifies with the account key and carries nonce, URL and account', async () => {
    const keyPem = await pki.generateKey('ecdsa-p256');
    const signer = await loadSigner('https://ca.test/dir', keyPem);
    const jws = JSON.parse(
      signer.sign(
        'https://ca.test/order',
        { a: 1 },
        { nonce: 'n1', sender: { kid: 'https://ca.test/acct/1' } },
      ),
    );
    expect(decode(jws.protected)).toEqual({
      alg: 'ES256',
      url: 'https://ca.test/order',
      nonce: 'n1',
      kid: 'https://ca.test/acct/1',
    });
    expect(decode(jws.payload)).toEqual({ a: 1 });
    const key = { key: createPublicKey(keyPem), dsaEncoding: 'ieee-p1363' } as const;
    const signed = Buffer.from(`${jws.protected}.${jws.payload}`);
    expect(verify('sha256', signed, key, Buffer.from(jws.signature, 'base64url'))).toBe(true);
  });

  test('has an empty payload as a POST-as-GET, and the public key when there is no account', async () => {
    const signer = await loadSigner('https://ca.test/dir', await pki.generateKey('ecdsa-p256'));
    const jws = JSON.parse(signer.sign('https://ca.test/order/1', undefined, { nonce: 'n1', sender: 'jwk' }));
    expect(jws.payload).toBe('');
    expect(Object.keys(decode(jws.protected).jwk)).toEqual(['crv', 'kty', 'x', 'y']);
  });
});

test('a key authorization is the token and the thumbprint of the account key (RFC 7638)', async () => {
  const keyPem = await pki.generateKey('ecdsa-p256');
  const signer = await loadSigner('https://ca.test/dir', keyPem);
  const { crv, kty, x, y } = createPublicKey(keyPem).export({ format: 'jwk' });
  const thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
  expect(await signer.keyAuthorization('abc')).toBe(`abc.${thumbprint}`);
});

test('an account key that cannot be parsed is reported without quoting it', async () => {
  const pem = '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n';
  const failure = await loadSigner('https://ca.test/dir', pem).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 'ERR_STORE_CORRUPT', retry: 'never' });
  expect(inspect(failure)).not.toContain('c2VjcmV0');
});

describe('a certificate request', () => {
  test.each<KeyType>(['ecdsa-p256', 'ecdsa-p384', 'rsa-2048'])(
    'is made with a key of type %s',
    async (type) => {
      const csr = await certificateRequest(await pki.generateKey(type), ['one.test', 'two.test']);
      const der = Buffer.from(csr, 'base64url');
      expect(der[0]).toBe(0x30);
      expect(der.includes('one.test') && der.includes('two.test')).toBe(true);
    },
  );

  test('takes addresses in any spelling', async () => {
    const keyPem = await pki.generateKey('ecdsa-p256');
    await expect(certificateRequest(keyPem, ['192.0.2.1', '2001:db8:0::1'])).resolves.toMatch(/^[\w-]+$/);
  });
});
