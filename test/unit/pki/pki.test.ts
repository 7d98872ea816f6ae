import { createPrivateKey, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { certificatesIn, readBundlePem, renderBundlePem } from '../../../src/domain/x509.ts';
import { createPki } from '../../../src/pki/pki.ts';

const pki = createPki();
const notBefore = new Date('2026-03-01T12:00:00Z');
const notAfter = new Date('2027-03-01T12:00:00Z');

// One for all: RSA keys are slow to make.
const rsaKey = pki.generateKey('rsa-2048');

async function selfSigned(identifiers: readonly string[], key = rsaKey) {
  const keyPem = await key;
  const pem = await pki.selfSign({ keyPem, identifiers, notBefore, notAfter });
  return { keyPem, pem, certificate: new X509Certificate(pem) };
}

describe('a generated key', () => {
  test.each([
    { type: 'ecdsa-p256', details: { namedCurve: 'prime256v1' } },
    { type: 'ecdsa-p384', details: { namedCurve: 'secp384r1' } },
    { type: 'rsa-2048', details: { modulusLength: 2048 } },
  ] as const)('of type $type is what it says, as PKCS#8', async ({ type, details }) => {
    const pem = await pki.generateKey(type);
    expect(pem.startsWith('-----BEGIN PRIVATE KEY-----\n')).toBe(true);
    expect(createPrivateKey(pem).asymmetricKeyDetails).toMatchObject(details);
  });

  test('is another one each time', async () => {
    expect(await pki.generateKey('ecdsa-p256')).not.toBe(await pki.generateKey('ecdsa-p256'));
  });
});

describe('a self-signed certificate', () => {
  test('with its key is a bundle that HAProxy loads', async () => {
    const { keyPem, pem } = await selfSigned(['cloud.example.org', 'api.cloud.example.org', '192.0.2.7']);
    const bundle = renderBundlePem(pem, keyPem);
    expect(readBundlePem(bundle)).toMatchObject({
      state: 'loadable',
      facts: {
        selfSigned: true,
        identifiers: ['cloud.example.org', 'api.cloud.example.org', '192.0.2.7'],
        notBefore,
        notAfter,
      },
    });
    expect(bundle).not.toMatch(/\r|\n\n/);
    expect(certificatesIn(bundle)).toHaveLength(1);
  });

  test.each([
    { type: 'rsa-2048', key: rsaKey },
    { type: 'ecdsa-p256', key: pki.generateKey('ecdsa-p256') },
    { type: 'ecdsa-p384', key: pki.generateKey('ecdsa-p384') },
  ])('is made with a key of type $type', async ({ key }) => {
    const { keyPem, pem, certificate } = await selfSigned(['one.test'], key);
    expect(readBundlePem(renderBundlePem(pem, keyPem))).toMatchObject({ facts: { selfSigned: true } });
    expect(certificate.publicKey.asymmetricKeyType).toBe(createPrivateKey(keyPem).asymmetricKeyType);
  });

  test('is for servers, is no CA, and covers each identifier', async () => {
    const { certificate } = await selfSigned(['cloud.example.org', '*.apps.example.org', '2001:db8::7']);
    expect(certificate.ca).toBe(false);
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
    expect(certificate.checkHost('cloud.example.org')).toBeDefined();
    expect(certificate.checkHost('x.apps.example.org')).toBeDefined();
    expect(certificate.checkIP('2001:db8::7')).toBeDefined();
    expect(certificate.checkHost('other.example.org')).toBeUndefined();
  });

  test('is named by the first identifier that fits into a common name', async () => {
    const long = `${'a'.repeat(60)}.example.org`;
    expect((await selfSigned([long, 'short.example.org'])).certificate.subject).toBe('CN=short.example.org');
    const { certificate } = await selfSigned([long]);
    expect(certificate.subject).toBe('CN=kacme self-signed');
    expect(certificate.checkHost(long)).toBeDefined();
  });

  test('has a positive random serial number of more than 64 bits', async () => {
    const serials = await Promise.all(
      Array.from({ length: 3 }, async () => (await selfSigned(['one.test'])).certificate.serialNumber),
    );
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
    expect(new Set(serials).size).toBe(3);
  });
});
