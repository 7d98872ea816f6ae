/** Whether an identifier is an IP address (RFC 8738 section 3) and not a DNS name, whose last label is never a number. */
export function isIpAddress(identifier: string): boolean {
  return identifier.includes(':') || /^\d+(\.\d+){3}$/.test(identifier);
}

/**
 * The one spelling of an identifier that kacme compares: lower case, and for an IPv6 address the shortest (RFC 5952
 * section 4), as RFC 8738 section 3 asks for.
 */
export function canonicalIdentifier(identifier: string): string {
  const address = identifier.includes(':') && URL.canParse(`http://[${identifier}]`);
  return address ? shortest(identifier) : identifier.toLowerCase();
}

/** The /64 network of an IPv6 address, such as `2001:db8:0:1::/64`. Throws a TypeError for what is no IPv6 address. */
export function networkOf(ipv6: string): string {
  const [head = '', tail] = shortest(ipv6).split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return `${[...left, ...zeros, ...right].slice(0, 4).join(':')}::/64`;
}

const shortest = (ipv6: string): string => new URL(`http://[${ipv6}]`).hostname.slice(1, -1);
