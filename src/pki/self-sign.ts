import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import forge from 'node-forge';
import type { Pki } from '../ports/pki.ts';

/** ub-common-name of RFC 5280, appendix A.1. */
const LONGEST_COMMON_NAME = 64;

/** GeneralName choices of RFC 5280 section 4.2.1.6. */
const DNS_NAME = 2;
const IP_ADDRESS = 7;

/** See `Pki.selfSign`. Throws a plain Error when `keyPem` is not RSA: node-forge signs with nothing else. */
export const selfSign: Pki['selfSign'] = async ({ keyPem, identifiers, notBefore, notAfter }) => {
  const privateKey = forge.pki.privateKeyFromPem(keyPem);
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.setRsaPublicKey(privateKey.n, privateKey.e);
  certificate.serialNumber = serialNumber();
  certificate.validity.notBefore = notBefore;
  certificate.validity.notAfter = notAfter;
  const commonName = identifiers.find((identifier) => identifier.length <= LONGEST_COMMON_NAME);
  // An empty issuer is not allowed (section 4.1.2.4): the name of who made it stands in for one.
  const name = [{ name: 'commonName', value: commonName ?? 'kacme self-signed' }];
  certificate.setSubject(name);
  certificate.setIssuer(name);
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: false },
    { name: 'keyUsage', critical: true, digitalSignature: true, keyEncipherment: true },
    { name: 'extKeyUsage', serverAuth: true },
    { name: 'subjectAltName', altNames: identifiers.map(generalName) },
    { name: 'subjectKeyIdentifier' },
  ]);
  certificate.sign(privateKey, forge.md.sha256.create());
  return forge.pki.certificateToPem(certificate).replaceAll('\r\n', '\n');
};

const generalName = (identifier: string) =>
  isIP(identifier) === 0 ? { type: DNS_NAME, value: identifier } : { type: IP_ADDRESS, ip: identifier };

/** 126 random bits below `01`: positive, and never shorter for a leading zero (section 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
