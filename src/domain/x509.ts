import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { canonicalIdentifier } from './ip-address.ts';
import type { KeyFamily, KeyType } from './model.ts';

/** What kacme needs to know of a leaf certificate (RFC 5280). */
export interface CertificateFacts {
  /** SHA-256 of the DER, lower-case hex: its identity in kacme. */
  readonly fingerprint256: string;
  /** SHA-1 of the DER, lower-case hex: its identity in HAProxy's answers. */
  readonly fingerprint1: string;
  /** subjectAltName: DNS names and IP addresses, as `canonicalIdentifier` spells them. */
  readonly identifiers: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly selfSigned: boolean;
  readonly serialNumber: string;
  /** Of its key; undefined for a key of another kind. */
  readonly family?: KeyFamily | undefined;
  readonly issuer: string;
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const PRIVATE_KEY = /-----BEGIN (?:RSA |EC )?PRIVATE KEY-----[^-]+-----END (?:RSA |EC )?PRIVATE KEY-----/;

const hex = (fingerprint: string): string => fingerprint.replaceAll(':', '').toLowerCase();

/** The certificates of a PEM text in their order. Throws a plain Error for one that cannot be parsed. */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  return Array.from(pem.matchAll(CERTIFICATE), ([text]) => new X509Certificate(text));
}

export function factsOf(certificate: X509Certificate): CertificateFacts {
  return {
    fingerprint256: hex(certificate.fingerprint256),
    fingerprint1: hex(certificate.fingerprint),
    identifiers: subjectAltNames(certificate.subjectAltName),
    notBefore: new Date(certificate.validFrom),
    notAfter: new Date(certificate.validTo),
    selfSigned: certificate.issuer === certificate.subject && certificate.verify(certificate.publicKey),
    serialNumber: certificate.serialNumber.toLowerCase(),
    family: keyFamilyIn(certificate),
    issuer: certificate.issuer.replaceAll('\n', ', '),
  };
}

/** Of the leaf of a chain. Undefined for a chain of none, or a key of another kind. */
export function keyFamilyOfLeaf(chainPem: string): KeyFamily | undefined {
  const [leaf] = certificatesIn(chainPem);
  return leaf && keyFamilyIn(leaf);
}

function keyFamilyIn({ publicKey }: X509Certificate): KeyFamily | undefined {
  const type = publicKey.asymmetricKeyType;
  return type === 'ec' ? 'ecdsa' : type === 'rsa' ? 'rsa' : undefined;
}

function subjectAltNames(text: string | undefined): readonly string[] {
  if (text === undefined) return [];
  return text
    .split(', ')
    .map((name) => /^(?:DNS|IP Address):(.+)$/.exec(name)?.[1])
    .filter((name) => name !== undefined)
    .map(canonicalIdentifier);
}

/**
 * The name of what the chain leads to: the common name of the issuer of its topmost certificate, or the whole name of
 * an issuer without one. Undefined for a text without certificates. Throws as `certificatesIn`.
 */
export function rootNameOf(chainPem: string): string | undefined {
  const topmost = certificatesIn(chainPem).at(-1);
  if (topmost === undefined) return undefined;
  const { CN } = topmost.toLegacyObject().issuer;
  return [CN].flat()[0] ?? topmost.issuer.replaceAll('\n', ', ');
}

export type BundleJudgement =
  | { readonly state: 'loadable'; readonly facts: CertificateFacts }
  | { readonly state: 'broken'; readonly reason: string };

/** By the SHA-256 of the PEM, so that no key is kept. */
const judged = new Map<string, BundleJudgement>();
const JUDGEMENTS_KEPT = 100;

/** Judges a PEM file as HAProxy would: leaf first, an unbroken chain, a private key that fits the leaf. */
export function readBundlePem(pem: string): BundleJudgement {
  // Each host of a fleet shows the same few bundles at each look, and parsing one takes a millisecond.
  const id = createHash('sha256').update(pem).digest('base64');
  const known = judged.get(id);
  if (known !== undefined) return known;
  const judgement = judgeBundle(pem);
  const [oldest] = judged.keys();
  if (oldest !== undefined && judged.size >= JUDGEMENTS_KEPT) judged.delete(oldest);
  judged.set(id, judgement);
  return judgement;
}

function judgeBundle(pem: string): BundleJudgement {
  const broken = (reason: string) => ({ state: 'broken', reason }) as const;
  if (pem.trim() === '') return broken('the file is empty');
  let certificates: readonly X509Certificate[];
  try {
    certificates = certificatesIn(pem);
  } catch (error) {
    return broken(
      `a certificate in it cannot be parsed: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  const leaf = certificates[0];
  if (leaf === undefined) return broken('it holds no certificate');
  const gap = certificates.findIndex(
    (certificate, i) => i > 0 && !certificates[i - 1]?.checkIssued(certificate),
  );
  if (gap > 0) return broken(`certificate ${gap + 1} did not issue certificate ${gap}`);
  const keyText = PRIVATE_KEY.exec(pem)?.[0];
  if (keyText === undefined) return broken('it holds no private key');
  try {
    if (!leaf.checkPrivateKey(createPrivateKey(keyText)))
      return broken('its private key does not fit its certificate');
  } catch {
    // The parser's message could quote the key: it is left out.
    return broken('its private key cannot be parsed');
  }
  return { state: 'loadable', facts: factsOf(leaf) };
}

/** Leaf, chain, key as HAProxy wants them: no blank line, since one would end a runtime API payload. */
export function renderBundlePem(chainPem: string, keyPem: string): string {
  const lines = `${chainPem}\n${keyPem}`.split(/\r?\n/).filter((line) => line.trim() !== '');
  return `${lines.join('\n')}\n`;
}

/** The chain and the key of a PEM that `readBundlePem` calls loadable; what else stands in it is left out. */
export function splitBundlePem(pem: string): { readonly chainPem: string; readonly keyPem: string } {
  const chainPem = Array.from(pem.matchAll(CERTIFICATE), ([text]) => `${text}\n`).join('');
  return { chainPem, keyPem: `${PRIVATE_KEY.exec(pem)?.[0] ?? ''}\n` };
}

/** Undefined for a key of a type that kacme does not make. Throws a plain Error for one that cannot be parsed. */
export function keyTypeOf(keyPem: string): KeyType | undefined {
  const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(keyPem);
  switch (
    asymmetricKeyType === 'ec' ? asymmetricKeyDetails?.namedCurve : asymmetricKeyDetails?.modulusLength
  ) {
    case 'prime256v1':
      return 'ecdsa-p256';
    case 'secp384r1':
      return 'ecdsa-p384';
    case 2048:
      return 'rsa-2048';
    case 3072:
      return 'rsa-3072';
    case 4096:
      return 'rsa-4096';
    default:
      return undefined;
  }
}

/**
 * SHA-256 of the public key that belongs to a private one (its SubjectPublicKeyInfo, lower-case hex), which is what a
 * TLSA record 3 1 1 holds (RFC 6698 section 2.1). Throws a plain Error for a key that cannot be parsed.
 */
export function publicKeyHash(keyPem: string): string {
  const publicKey = createPublicKey(keyPem).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(publicKey).digest('hex');
}
