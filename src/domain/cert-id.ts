/** One DER element (ITU-T X.690 section 8.1): its identifier octet and its content octets. */
interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
}

const INTEGER = 0x02;
const OCTET_STRING = 0x04;
const SEQUENCE = 0x30;
const EXTENSIONS = 0xa3;
const KEY_IDENTIFIER = 0x80;
/** id-ce-authorityKeyIdentifier, 2.5.29.35, with its own tag and length. */
const AUTHORITY_KEY_IDENTIFIER = '0603551d23';

/**
 * The name of a certificate in ARI (RFC 9773 section 4.1): base64url of the keyIdentifier in its authority key
 * identifier, a dot, base64url of the content octets of its serial number (with the leading zero that DER
 * demands), both without padding. `leaf` is DER, such as `X509Certificate.raw`. Undefined when the certificate
 * has no authority keyIdentifier: ARI cannot be asked about it.
 */
export function certIdOf(leaf: Uint8Array): string | undefined {
  const [certificate] = elementsOf(leaf, SEQUENCE);
  const [toBeSigned] = elementsOf(certificate?.content, SEQUENCE);
  // The version is [0], so the first INTEGER of TBSCertificate is the serial number (RFC 5280 section 4.1).
  const [serial] = elementsOf(toBeSigned?.content, INTEGER);
  const [extensions] = elementsOf(toBeSigned?.content, EXTENSIONS);
  const [list] = elementsOf(extensions?.content, SEQUENCE);
  const authority = elementsOf(list?.content, SEQUENCE).find(({ content }) =>
    Buffer.from(content).toString('hex').startsWith(AUTHORITY_KEY_IDENTIFIER),
  );
  // RFC 5280 section 4.2.1.1: OCTET STRING { SEQUENCE { [0] keyIdentifier, ... } }
  const [value] = elementsOf(authority?.content, OCTET_STRING);
  const [identifiers] = elementsOf(value?.content, SEQUENCE);
  const [keyIdentifier] = elementsOf(identifiers?.content, KEY_IDENTIFIER);
  if (serial === undefined || keyIdentifier === undefined) return undefined;
  return `${base64url(keyIdentifier.content)}.${base64url(serial.content)}`;
}

const base64url = (octets: Uint8Array): string => Buffer.from(octets).toString('base64url');

/** The elements with this tag that lie side by side in `bytes`, up to the first that is cut short. */
function elementsOf(bytes: Uint8Array | undefined, tag: number): readonly Element[] {
  const found: Element[] = [];
  let rest = bytes ?? new Uint8Array();
  while (rest.length > 0) {
    const read = readElement(rest);
    if (read === undefined) break;
    if (read.element.tag === tag) found.push(read.element);
    rest = read.rest;
  }
  return found;
}

/** Reads single-octet tags and definite lengths (X.690 section 10.1), all that a certificate has. */
function readElement(
  bytes: Uint8Array,
): { readonly element: Element; readonly rest: Uint8Array } | undefined {
  const [tag, first] = bytes;
  if (tag === undefined || first === undefined) return undefined;
  const lengthOctets = first < 0x80 ? 0 : first & 0x7f;
  const start = 2 + lengthOctets;
  if (start > bytes.length || lengthOctets > 4 || first === 0x80) return undefined;
  const length =
    lengthOctets === 0 ? first : bytes.subarray(2, start).reduce((sum, octet) => sum * 256 + octet, 0);
  const end = start + length;
  if (end > bytes.length) return undefined;
  return { element: { tag, content: bytes.subarray(start, end) }, rest: bytes.subarray(end) };
}
