import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import type { KeyType } from '../../src/domain/model.ts';
import * as der from './der.ts';

const DAY_MS = 86_400_000;

export interface CertificateOptions {
  /** `ecdsa-p256` when not given: it takes a millisecond, RSA a tenth of a second. */
  readonly keyType?: KeyType;
  /** An hour ago when not given. */
  readonly notBefore?: Date;
  /** In 90 days when not given. */
  readonly notAfter?: Date;
  /** Certifies this key instead of a new one; of a public one there is no `keyPem`. */
  readonly key?: KeyObject;
}

/** A throw-away certificate with its key. */
export interface TestCertificate {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
  readonly certPem: string;
  /** PKCS#8 */
  readonly keyPem: string;
  /** Leaf, then what signed it (a self-signed root is left out, as CAs do). */
  readonly chainPem: string;
  /** Leaf, chain, key: what HAProxy loads. */
  readonly bundlePem: string;
  /** SHA-256 of the leaf's DER, lower-case hex. */
  readonly fingerprint256: string;
}

export interface TestCa extends TestCertificate {
  /** A leaf for these names, signed by this CA. */
  issue(names: readonly string[], options?: CertificateOptions): TestCertificate;
  /** A CA below this one; its leaves carry it in their chain. */
  intermediate(commonName: string, options?: CertificateOptions): TestCa;
}

/** A certificate signed by its own key, for DNS names and IP addresses. */
export function selfSigned(
  names: string | readonly string[],
  options: CertificateOptions = {},
): TestCertificate {
  const list = typeof names === 'string' ? [names] : names;
  return makeCertificate({ commonName: list[0] ?? 'empty.test', names: list, ca: false }, options, undefined);
}

/** A root CA. */
export function testCa(commonName = 'Throw-away test CA', options: CertificateOptions = {}): TestCa {
  return withIssuing(makeCertificate({ commonName, names: [], ca: true }, options, undefined));
}

function withIssuing(own: TestCertificate): TestCa {
  return {
    ...own,
    issue: (names, options = {}) =>
      makeCertificate({ commonName: names[0] ?? 'empty.test', names, ca: false }, options, own),
    intermediate: (commonName, options = {}) =>
      withIssuing(makeCertificate({ commonName, names: [], ca: true }, options, own)),
  };
}

function newKey(type: KeyType = 'ecdsa-p256'): KeyObject {
  if (type === 'ecdsa-p256') return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  if (type === 'ecdsa-p384') return generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
  const modulusLength = { 'rsa-2048': 2048, 'rsa-3072': 3072, 'rsa-4096': 4096 }[type];
  return generateKeyPairSync('rsa', { modulusLength }).privateKey;
}

interface Subject {
  readonly commonName: string;
  readonly names: readonly string[];
  readonly ca: boolean;
}

function makeCertificate(
  subject: Subject,
  options: CertificateOptions,
  issuer: TestCertificate | undefined,
): TestCertificate {
  const key = options.key ?? newKey(options.keyType);
  const signer = issuer?.key ?? key;
  const algorithm =
    signer.asymmetricKeyType === 'rsa'
      ? der.sequence(der.oid('1.2.840.113549.1.1.11'), der.tagged(0x05))
      : der.sequence(der.oid('1.2.840.10045.4.3.2'));
  const subjectName = name(subject.commonName);
  const serial = randomBytes(16);
  serial[0] = 0x5a; // positive, and never shortened
  const toBeSigned = der.sequence(
    der.tagged(0xa0, der.integer(Buffer.from([2]))),
    der.integer(serial),
    algorithm,
    issuer === undefined ? subjectName : name(commonNameOf(issuer)),
    der.sequence(
      der.time(options.notBefore ?? new Date(Date.now() - 3_600_000)),
      der.time(options.notAfter ?? new Date(Date.now() + 90 * DAY_MS)),
    ),
    subjectName,
    publicKeyInfo(key),
    der.tagged(0xa3, der.sequence(...extensions(subject, key, signer))),
  );
  const signature = sign('sha256', toBeSigned, signer);
  const certificate = new X509Certificate(der.sequence(toBeSigned, algorithm, der.bitString(signature)));
  const certPem = certificate.toString();
  const issuerIsRoot = issuer === undefined || issuer.certificate.issuer === issuer.certificate.subject;
  const chainPem = issuerIsRoot ? certPem : certPem + issuer.chainPem;
  const keyPem = key.type === 'public' ? '' : key.export({ type: 'pkcs8', format: 'pem' }).toString();
  const fingerprint256 = createHash('sha256').update(certificate.raw).digest('hex');
  return { certificate, key, certPem, keyPem, chainPem, bundlePem: chainPem + keyPem, fingerprint256 };
}

function extensions(subject: Subject, key: KeyObject, signer: KeyObject): Buffer[] {
  const list = [
    extension('2.5.29.14', der.octetString(keyIdentifier(key))),
    extension('2.5.29.35', der.sequence(der.tagged(0x80, keyIdentifier(signer)))),
    extension('2.5.29.19', der.sequence(...(subject.ca ? [der.boolean(true)] : []))),
  ];
  if (subject.names.length > 0) {
    list.push(extension('2.5.29.17', der.sequence(...subject.names.map(generalName))));
  }
  return list;
}

const extension = (id: string, value: Buffer): Buffer => der.sequence(der.oid(id), der.octetString(value));

const name = (commonName: string): Buffer =>
  der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(commonName))));

const commonNameOf = ({ certificate }: TestCertificate): string => certificate.subject.replace(/^CN=/, '');

const publicKeyInfo = (key: KeyObject): Buffer =>
  (key.type === 'public' ? key : createPublicKey(key)).export({ type: 'spki', format: 'der' });

const keyIdentifier = (key: KeyObject): Buffer => createHash('sha1').update(publicKeyInfo(key)).digest();

/** RFC 5280 section 4.2.1.6 */
function generalName(text: string): Buffer {
  if (isIP(text) === 4) return der.tagged(0x87, Buffer.from(text.split('.').map(Number)));
  if (isIP(text) === 6) return der.tagged(0x87, ipv6Bytes(text));
  return der.tagged(0x82, Buffer.from(text.startsWith('*.') ? text : domainToASCII(text)));
}

function ipv6Bytes(text: string): Buffer {
  const [left = [], right = []] = text
    .split('::')
    .map((half) => half.split(':').filter((part) => part !== ''));
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return Buffer.from([...left, ...zeros, ...right].map((part) => part.padStart(4, '0')).join(''), 'hex');
}
