import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import forge from 'node-forge';
import type { Pki } from '../ports/pki.ts';

const { asn1 } = forge;

/** ub-common-name of RFC 5280, appendix A.1. */
const LONGEST_COMMON_NAME = 64;

/** GeneralName choices of RFC 5280 section 4.2.1.6. */
const DNS_NAME = 2;
const IP_ADDRESS = 7;

/** RFC 5758 section 3.2, where parameters are absent, and RFC 4055 section 5, where they are NULL. */
const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';
const RSA_WITH_SHA256 = '1.2.840.113549.1.1.11';

/** Places in TBSCertificate (RFC 5280 section 4.1), the version being the first. */
const SIGNATURE = 2;
const SUBJECT_PUBLIC_KEY_INFO = 6;

/** See `Pki.selfSign`. node-forge describes the certificate; since it knows RSA only, node:crypto signs. */
export const selfSign: Pki['selfSign'] = async ({ keyPem, ...request }) => {
  const key = createPrivateKey(keyPem);
  const algorithm = signatureAlgorithm(key);
  const description = describe(request, key);
  const fields = elementsOf(elementsOf(forge.pki.certificateToAsn1(description))[0]);
  fields[SIGNATURE] = algorithm;
  fields[SUBJECT_PUBLIC_KEY_INFO] = asn1.fromDer(publicKeyOf(key).toString('latin1'));
  const toBeSigned = sequence(fields);
  const signature = sign('sha256', derOf(toBeSigned), key);
  return new X509Certificate(derOf(sequence([toBeSigned, algorithm, bitString(signature)]))).toString();
};

/** Everything but the key and the signature, for which an RSA key of no use stands in. */
function describe(
  { identifiers, notBefore, notAfter }: Omit<Parameters<Pki['selfSign']>[0], 'keyPem'>,
  key: KeyObject,
): forge.pki.Certificate {
  const certificate = forge.pki.createCertificate();
  const one = new forge.jsbn.BigInteger('1');
  certificate.publicKey = forge.pki.setRsaPublicKey(one, one);
  certificate.signatureOid = RSA_WITH_SHA256;
  certificate.siginfo.algorithmOid = RSA_WITH_SHA256;
  certificate.serialNumber = serialNumber();
  certificate.validity.notBefore = notBefore;
  certificate.validity.notAfter = notAfter;
  const commonName = identifiers.find((identifier) => identifier.length <= LONGEST_COMMON_NAME);
  // An empty issuer is not allowed (section 4.1.2.4): the name of who made it stands in for one.
  const name = [{ name: 'commonName', value: commonName ?? 'kacme self-signed' }];
  certificate.setSubject(name);
  certificate.setIssuer(name);
  // RFC 8813 section 3: an ECDSA key enciphers nothing.
  const keyEncipherment = key.asymmetricKeyType === 'rsa';
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: false },
    { name: 'keyUsage', critical: true, digitalSignature: true, keyEncipherment },
    { name: 'extKeyUsage', serverAuth: true },
    { name: 'subjectAltName', altNames: identifiers.map(generalName) },
    { name: 'subjectKeyIdentifier', value: octetString(keyIdentifier(key)) },
  ]);
  return certificate;
}

/** A hash of the key's bits would do; that of the whole SubjectPublicKeyInfo is as unique (section 4.2.1.2). */
const keyIdentifier = (key: KeyObject) => createHash('sha1').update(publicKeyOf(key)).digest();

/** SubjectPublicKeyInfo, DER. */
const publicKeyOf = (key: KeyObject): Buffer => createPublicKey(key).export({ type: 'spki', format: 'der' });

function signatureAlgorithm({ asymmetricKeyType }: KeyObject): forge.asn1.Asn1 {
  if (asymmetricKeyType === 'ec') return sequence([oid(ECDSA_WITH_SHA256)]);
  return sequence([oid(RSA_WITH_SHA256), primitive(asn1.Type.NULL, '')]);
}

const elementsOf = (element: forge.asn1.Asn1 | undefined): forge.asn1.Asn1[] =>
  Array.isArray(element?.value) ? element.value : [];

const sequence = (elements: forge.asn1.Asn1[]): forge.asn1.Asn1 =>
  asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SEQUENCE, true, elements);

const primitive = (type: forge.asn1.Type, content: string): forge.asn1.Asn1 =>
  asn1.create(asn1.Class.UNIVERSAL, type, false, content);

const oid = (id: string) => primitive(asn1.Type.OID, asn1.oidToDer(id).getBytes());

const octetString = (bytes: Buffer) => primitive(asn1.Type.OCTETSTRING, bytes.toString('latin1'));

/** All bits of the last octet count. */
const bitString = (bytes: Buffer) => primitive(asn1.Type.BITSTRING, `\0${bytes.toString('latin1')}`);

const derOf = (element: forge.asn1.Asn1): Buffer => Buffer.from(asn1.toDer(element).getBytes(), 'latin1');

const generalName = (identifier: string) =>
  isIP(identifier) === 0 ? { type: DNS_NAME, value: identifier } : { type: IP_ADDRESS, ip: identifier };

/** 126 random bits below `01`: positive, and never shorter for a leading zero (section 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
