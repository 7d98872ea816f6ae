import { describe, expect, test } from 'vitest';
import { certIdOf } from '../../../src/domain/cert-id.ts';
import * as der from '../../support/der.ts';
import { selfSigned, testCa } from '../../support/pem.ts';

const bytes = (hex: string) => Buffer.from(hex.replaceAll(':', ''), 'hex');

/** The fields of a TBSCertificate that certIdOf reads, in their order (RFC 5280 section 4.1). */
const certificate = (serial: Buffer, ...extensions: Buffer[]) =>
  der.sequence(
    der.sequence(
      der.tagged(0xa0, der.integer(Buffer.from([2]))),
      serial,
      der.sequence(der.oid('1.2.840.10045.4.3.2')),
      der.tagged(0xa3, der.sequence(...extensions)),
    ),
  );
const authorityKeyIdentifier = (...content: Buffer[]) =>
  der.sequence(der.oid('2.5.29.35'), der.octetString(der.sequence(...content)));
const other = der.sequence(der.oid('2.5.29.19'), der.boolean(true), der.octetString(der.sequence()));

const KEY_IDENTIFIER = bytes('69:88:5B:6B:87:46:40:41:E1:B3:7B:84:7B:A0:AE:2C:DE:01:C8:D4');
const SERIAL = der.integer(bytes('87:65:43:21'));

describe('certIdOf', () => {
  test('gives the example of RFC 9773 section 4.1, with the leading zero of the serial number', () => {
    const leaf = certificate(SERIAL, other, authorityKeyIdentifier(der.tagged(0x80, KEY_IDENTIFIER)));
    expect(certIdOf(leaf)).toBe('aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE');
  });

  test.each(['ecdsa-p256', 'rsa-2048'] as const)(
    'agrees with what OpenSSL reads from an %s leaf',
    (keyType) => {
      const ca = testCa();
      const leaf = ca.issue(['a.example.org'], { keyType }).certificate;
      const [authority = '', serial = ''] = certIdOf(leaf.raw)?.split('.') ?? [];
      expect(Buffer.from(serial, 'base64url')).toEqual(bytes(leaf.serialNumber));
      expect(certIdOf(ca.certificate.raw)?.split('.')[0]).toBe(authority);
      expect(Buffer.from(authority, 'base64url')).toHaveLength(20);
    },
  );

  test('names two certificates of one CA by their serial numbers', () => {
    const ca = testCa();
    expect(certIdOf(ca.issue(['a.test']).certificate.raw)).not.toBe(
      certIdOf(ca.issue(['a.test']).certificate.raw),
    );
  });

  test.each([
    { when: 'there are no extensions', leaf: certificate(SERIAL) },
    { when: 'there is no authority key identifier', leaf: certificate(SERIAL, other) },
    { when: 'it names the issuer only', leaf: certificate(SERIAL, authorityKeyIdentifier(der.tagged(0xa1))) },
    { when: 'there is nothing', leaf: Buffer.alloc(0) },
    { when: 'it is no DER', leaf: Buffer.from('-----BEGIN') },
    { when: 'a length is indefinite', leaf: bytes('30:80:00:00') },
    { when: 'a length is missing', leaf: bytes('30:84:01') },
  ])('is undefined when $when', ({ leaf }) => {
    expect(certIdOf(leaf)).toBeUndefined();
  });

  test('is undefined for every certificate that was cut short within it', () => {
    const { raw } = selfSigned('a.test').certificate;
    for (let length = 0; length < raw.length; length += 7)
      expect(certIdOf(raw.subarray(0, length))).toBeUndefined();
  });
});
