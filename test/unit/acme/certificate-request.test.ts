import { createPublicKey, verify } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { certificateRequest } from '../../../src/acme/certificate-request.ts';
import type { KeyType } from '../../../src/domain/model.ts';
import { createPki } from '../../../src/pki/pki.ts';

interface Element {
  readonly tag: number;
  /** With its tag and its length. */
  readonly whole: Buffer;
  readonly content: Buffer;
}

/** The elements that follow one another in DER. */
function elements(bytes: Buffer): readonly Element[] {
  if (bytes.length === 0) return [];
  const [tag = 0, first = 0] = bytes;
  const lengthOctets = first < 0x80 ? 0 : first & 0x7f;
  const length = lengthOctets === 0 ? first : bytes.readUIntBE(2, lengthOctets);
  const start = 2 + lengthOctets;
  const end = start + length;
  const whole = bytes.subarray(0, end);
  return [{ tag, whole, content: bytes.subarray(start, end) }, ...elements(bytes.subarray(end))];
}

/** The element reached by taking the child of this number again and again. */
function at(bytes: Buffer, ...path: readonly number[]): Element {
  return path.reduce<Element>(
    ({ content }, index) => elements(content)[index] ?? { tag: -1, whole: bytes, content: Buffer.alloc(0) },
    { tag: 0, whole: bytes, content: bytes },
  );
}

const names = (csr: Buffer) => {
  const extension = at(csr, 0, 0, 3, 0, 1, 0, 0);
  const subjectAltName = elements(extension.content).at(-1)?.content ?? Buffer.alloc(0);
  return elements(at(subjectAltName, 0).content);
};

describe('a certificate request', () => {
  test.each<{ type: KeyType; hash: string }>([
    { type: 'ecdsa-p256', hash: 'sha256' },
    { type: 'ecdsa-p384', hash: 'sha384' },
    { type: 'rsa-2048', hash: 'sha256' },
  ])('carries the public key of type $type and is signed with the private one', async ({ type, hash }) => {
    const keyPem = await createPki().generateKey(type);
    const csr = Buffer.from(certificateRequest(keyPem, ['one.test', 'two.test']), 'base64url');
    const publicKey = createPublicKey(keyPem);
    expect(elements(csr)).toHaveLength(1);
    expect(at(csr, 0, 0, 2).whole).toEqual(publicKey.export({ type: 'spki', format: 'der' }));
    const signature = at(csr, 0, 2).content.subarray(1);
    expect(verify(hash, at(csr, 0, 0).whole, publicKey, signature)).toBe(true);
  });

  test('names what it is for in a critical subjectAltName, under an empty subject', async () => {
    const keyPem = await createPki().generateKey('ecdsa-p256');
    const csr = Buffer.from(certificateRequest(keyPem, ['one.test', 'two.test']), 'base64url');
    expect(at(csr, 0, 0, 1).content).toHaveLength(0);
    expect(at(csr, 0, 0, 3, 0, 1, 0, 0, 1)).toMatchObject({ tag: 0x01, content: Buffer.from([0xff]) });
    expect(names(csr).map(({ tag, content }) => [tag, content.toString()])).toEqual([
      [0x82, 'one.test'],
      [0x82, 'two.test'],
    ]);
  });

  test.each([
    { address: '192.0.2.1', hex: 'c0000201' },
    { address: '2001:db8:0::1', hex: '20010db8000000000000000000000001' },
    { address: '::', hex: '00'.repeat(16) },
    { address: 'fe80::', hex: `fe80${'00'.repeat(14)}` },
    { address: '::ffff:192.0.2.1', hex: '00000000000000000000ffffc0000201' },
    { address: '1:2:3:4:5:6:7:8', hex: '00010002000300040005000600070008' },
  ])('takes $address as an address in network order', async ({ address, hex }) => {
    const keyPem = await createPki().generateKey('ecdsa-p256');
    const csr = Buffer.from(certificateRequest(keyPem, [address]), 'base64url');
    expect(names(csr)).toMatchObject([{ tag: 0x87, content: Buffer.from(hex, 'hex') }]);
  });

  test('holds a hundred names', async () => {
    const keyPem = await createPki().generateKey('ecdsa-p256');
    const identifiers = Array.from({ length: 100 }, (_, i) => `n${i}.${'x'.repeat(60)}.test`);
    const csr = Buffer.from(certificateRequest(keyPem, identifiers), 'base64url');
    expect(names(csr).map(({ content }) => content.toString())).toEqual(identifiers);
  });

  test('refuses a name that is not written as A-labels', async () => {
    const keyPem = await createPki().generateKey('ecdsa-p256');
    expect(() => certificateRequest(keyPem, ['bücher.test'])).toThrow(
      expect.objectContaining({ code: 'ERR_ACME_ORDER', message: expect.stringContaining('bücher.test') }),
    );
  });
});
