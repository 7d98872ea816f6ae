import type { CaaRecord } from '../domain/caa.ts';
import type { AddressAnswers, DnsAnswer, ServiceRecord } from '../domain/dns.ts';

/**
 * Asks DNS as a CA would: no `/etc/hosts`, no search domains. Every answer comes within a bounded time; only a
 * cancellation is thrown, as `signal.reason`.
 */
export interface Resolver {
  /** The A and the AAAA records, aliases followed. */
  addresses(name: string, options: { signal: AbortSignal }): Promise<AddressAnswers>;
  /** The SRV records (RFC 2782), aliases of their owner followed. */
  services(name: string, options: { signal: AbortSignal }): Promise<DnsAnswer<ServiceRecord>>;
  /** The CAA records of this name alone (RFC 8659 section 4), aliases followed; the caller climbs. */
  caa(name: string, options: { signal: AbortSignal }): Promise<DnsAnswer<CaaRecord>>;
}
