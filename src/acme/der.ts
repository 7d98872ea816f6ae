/** Distinguished encoding rules (X.690), as much of them as a certificate request needs. */

/** `tag` is the whole identifier octet, such as 0x30 for a SEQUENCE. */
export function der(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const length = content.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return Buffer.concat([Buffer.from([tag]), lengthOctets(length), ...content]);
}

/** X.690 section 8.1.3: up to 127 in one octet, more in as few as it takes, counted by the first. */
function lengthOctets(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length]);
  const hex = length.toString(16);
  const octets = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return Buffer.concat([Buffer.from([0x80 | octets.length]), octets]);
}

export const sequence = (...content: readonly Uint8Array[]): Buffer => der(0x30, ...content);
export const set = (...content: readonly Uint8Array[]): Buffer => der(0x31, ...content);
export const octetString = (content: Uint8Array): Buffer => der(0x04, content);
export const NULL = der(0x05);

/** No bits unused in the last octet. */
export const bitString = (content: Uint8Array): Buffer => der(0x03, Buffer.from([0]), content);

/** Dotted decimals; every arc but the first two in base 128 (section 8.19). */
export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...others.flatMap(base128)]));
}

function base128(arc: number): number[] {
  const octets = [arc & 0x7f];
  for (let rest = arc >>> 7; rest > 0; rest >>>= 7) octets.unshift(0x80 | (rest & 0x7f));
  return octets;
}
