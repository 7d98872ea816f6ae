import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { accountKeyFacts, toPkcs8 } from '../../../src/domain/account-key.ts';
import { reportError } from '../../../src/domain/errors.ts';

const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).privateKey;
const rsa = (modulusLength: number) => generateKeyPairSync('rsa', { modulusLength }).privateKey;
const pem = (key: ReturnType<typeof ec>, type: 'pkcs8' | 'sec1' | 'pkcs1' = 'pkcs8') =>
  key.export({ type, format: 'pem' }).toString();

describe('an account key', () => {
  test.each([
    { type: 'ecdsa-p256', keyPem: pem(ec('P-256'), 'sec1') },
    { type: 'ecdsa-p384', keyPem: pem(ec('P-384')) },
    { type: 'rsa-2048', keyPem: pem(rsa(2048), 'pkcs1') },
  ])('of type $type is told by type and thumbprint, in whichever PEM it stands', ({ type, keyPem }) => {
    const facts = accountKeyFacts(keyPem);
    expect(facts).toMatchObject({ type, thumbprint: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/) });
    expect(toPkcs8(keyPem)).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    expect(accountKeyFacts(toPkcs8(keyPem))).toEqual(facts);
  });

  test.each([
    { what: 'text', keyPem: 'hello', says: 'cannot be parsed' },
    {
      what: 'a key of another kind',
      keyPem: pem(generateKeyPairSync('ed25519').privateKey),
      says: 'OKP Ed25519',
    },
    { what: 'a curve that no CA takes', keyPem: pem(ec('secp256k1')), says: 'secp256k1' },
    { what: 'a short RSA key', keyPem: pem(rsa(1024)), says: '1024 bits' },
    {
      what: 'a key with a passphrase',
      keyPem: ec('P-256')
        .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' })
        .toString(),
      says: 'passphrase',
    },
  ])('is not $what, and no word of it is quoted', ({ keyPem, says }) => {
    try {
      accountKeyFacts(keyPem);
      expect.unreachable();
    } catch (error) {
      const { code, message } = reportError(error);
      expect(code).toBe('ERR_ACCOUNT_KEY');
      expect(message).toContain(says);
      expect(message).not.toContain(keyPem.split('\n')[1] ?? keyPem);
    }
  });
});
