import { isIpAddress, networkOf } from './ip-address.ts';

/**
 * The registered domain of a DNS name by the public suffix list, its private part included (`a.b.example.co.uk`
 * gives `example.co.uk`); undefined for a public suffix itself.
 */
export type RegisteredDomain = (name: string) => string | undefined;

/**
 * What Let's Encrypt counts an identifier under ("New Certificates per Registered Domain"): the registered domain
 * of a name, a public suffix itself, an IPv4 address, or the /64 network of an IPv6 address.
 */
export function countedUnder(identifier: string, registeredDomain: RegisteredDomain): string {
  if (isIpAddress(identifier)) return identifier.includes(':') ? networkOf(identifier) : identifier;
  const name = identifier.replace(/^\*\./, '');
  return registeredDomain(name) ?? name;
}
