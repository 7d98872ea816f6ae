import { isIPv4, isIPv6 as matchesIPv6, SocketAddress } from 'node:net';
import { domainToASCII } from 'node:url';
import { canonicalIdentifier } from '../domain/ip-address.ts';

/** What a text of the configuration means, or why it means nothing. */
export type Parsed<T> = { readonly value: T } | { readonly problem: string };

export interface Endpoint {
  /** An IP address without brackets, or a name. */
  readonly host: string;
  readonly port: number | undefined;
}

/** Node's own pattern takes 5 ms to compile, at every start: not for a text that cannot be such an address. */
const isIPv6 = (text: string): boolean => text.includes(':') && matchesIPv6(text);
export const isIP = (text: string): boolean => isIPv4(text) || isIPv6(text);

const NAME = /^(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*$/i;
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/;

/**
 * Reads `name`, `10.0.0.11`, `fd00::13`, and each with a port: `10.0.0.12:2985`, `[fd00::13]:2985`. IPv6 comes out in
 * its canonical form (RFC 5952), in which ssh-keyscan and OpenSSH write it into known_hosts.
 */
export function parseEndpoint(text: string): Parsed<Endpoint> {
  if (/^\[?[0-9a-f:.]*:[0-9a-f:.]*%/i.test(text)) return { problem: ZONE_REFUSED };
  if (isIPv6(text)) return { value: { host: canonicalIPv6(text), port: undefined } };
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d*))?$/.exec(text);
  if (parts === null) return { problem: 'not an address: IPv6 with a port is written "[fd00::13]:22"' };
  const [, bracketed, plain = '', digits] = parts;
  if (bracketed !== undefined && !isIPv6(bracketed))
    return { problem: 'no IPv6 address stands in the brackets' };
  if (bracketed === undefined && !isName(plain)) return { problem: 'neither an IP address nor a host name' };
  const host = bracketed === undefined ? plain.toLowerCase() : canonicalIPv6(bracketed);
  if (digits === undefined) return { value: { host, port: undefined } };
  const port = Number(digits);
  if (port < 1 || port > 65_535) return { problem: 'a port is a number from 1 to 65535' };
  return { value: { host, port } };
}

const ZONE_REFUSED =
  'a zone id (%...) is the number or name of an interface of one machine alone: use an address that is valid everywhere';

const canonicalIPv6 = (address: string): string => new SocketAddress({ address, family: 'ipv6' }).address;

/** `host:port`, with brackets around IPv6. */
export function formatEndpoint({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/**
 * An identifier as the CA wants it: a DNS name (RFC 8555 section 9.7.7) in lower case with A-labels (RFC 5890), an IP
 * address (RFC 8738 section 3) in its shortest form.
 */
export function parseIdentifier(text: string): Parsed<string> {
  if (text.includes('*')) {
    return { problem: 'wildcards need DNS-01 challenges, which do not exist in kacme yet: list each name' };
  }
  // Before domainToASCII: it reads addresses, URLs and percent signs as browsers do.
  if (isIP(text)) return parseIpAddress(text);
  if (isIP(text.replace(/^\[|\]$/g, ''))) return { problem: 'expected an IPv6 address without brackets' };
  if (/[\s/:@%?#\\[\]]/.test(text))
    return { problem: 'expected a DNS name or an IP address alone: no scheme, port, path or space' };
  if (text.endsWith('.')) return { problem: 'expected a DNS name without the final dot' };
  const name = domainToASCII(text);
  if (isIP(name)) return { problem: `an IPv4 address is written as four decimal numbers, here ${name}` };
  if (name.length === 0 || name.length > 253 || !name.split('.').every((label) => LABEL.test(label))) {
    return { problem: 'not a DNS name: letters, digits and hyphens, at most 63 between dots and 253 in all' };
  }
  return { value: name };
}

function parseIpAddress(text: string): Parsed<string> {
  if (text.includes('%')) return { problem: 'an IP address with a zone means something on one machine only' };
  const value = canonicalIdentifier(text);
  if (value.startsWith('::ffff:')) return { problem: 'an IPv4 address is written as such, not within IPv6' };
  return { value };
}

function isName(text: string): boolean {
  // 10.0.0.256 is a mistyped address, not a name: no top level domain is a number.
  return NAME.test(text) && (isIP(text) || !/(?:^|\.)\d+$/.test(text));
}
