import { type CaaAnswer, type CaaIssuer, type CaaVerdict, caaNames, judgeCaa } from '../domain/caa.ts';
import {
  type AddressAnswers,
  addressesOf,
  caaAnswerOf,
  type DnsAnswer,
  type FoundAddresses,
} from '../domain/dns.ts';
import { isIpAddress } from '../domain/ip-address.ts';
import { Lane } from '../domain/lane.ts';
import type { Clock } from '../ports/clock.ts';
import type { Resolver } from '../ports/resolver.ts';
import { BriefMemory } from './brief-memory.ts';

/** Long enough for certificates that are renewed together, short enough for an operator who corrects a record. */
const KEPT_MS = 30_000;

/** Names that are looked up side by side. */
const LOOKUPS_AT_ONCE = 16;

/** What DNS says of identifiers, each question asked once for all certificates that are looked at together. */
export class NameService {
  readonly #resolver: Resolver;
  readonly #lane = new Lane(LOOKUPS_AT_ONCE);
  readonly #addresses: BriefMemory<AddressAnswers>;
  readonly #caa: BriefMemory<CaaAnswer>;

  constructor(resolver: Resolver, clock: Pick<Clock, 'monotonicMs'>) {
    this.#resolver = resolver;
    this.#addresses = new BriefMemory(KEPT_MS, clock);
    this.#caa = new BriefMemory(KEPT_MS, clock);
  }

  /** An IP address leads to itself. Throws `ERR_DNS_*`. */
  async addresses(identifier: string, options: { signal: AbortSignal }): Promise<FoundAddresses> {
    if (isIpAddress(identifier)) return { addresses: [identifier], doubts: [] };
    const ask = ({ signal }: { signal: AbortSignal }) =>
      this.#lane.run(() => this.#resolver.addresses(identifier, { signal }), { signal });
    const keep = ({ ipv4, ipv6 }: AddressAnswers) =>
      (ipv4.state === 'found' || ipv6.state === 'found') && isSettled(ipv4) && isSettled(ipv6);
    return addressesOf(identifier, await this.#addresses.of(identifier, { ask, keep }, options));
  }

  /** Climbs from the identifier to the first name that has CAA records (RFC 8659 section 3). */
  async caa(identifier: string, issuer: CaaIssuer, options: { signal: AbortSignal }): Promise<CaaVerdict> {
    const answers = new Map<string, CaaAnswer>();
    for (const name of caaNames(identifier)) {
      const answer = await this.#caaOf(name, options);
      answers.set(name, answer);
      if ('failure' in answer || answer.length > 0) break;
    }
    const verdict = judgeCaa(identifier, answers, issuer);
    // Whoever corrects the record wants to see that it helps.
    if (verdict.verdict === 'denied') for (const name of answers.keys()) this.#caa.forget(name);
    return verdict;
  }

  #caaOf(name: string, options: { signal: AbortSignal }): Promise<CaaAnswer> {
    const ask = ({ signal }: { signal: AbortSignal }) =>
      this.#lane.run(async () => caaAnswerOf(await this.#resolver.caa(name, { signal })), { signal });
    return this.#caa.of(name, { ask, keep: (answer) => !('failure' in answer) }, options);
  }
}

const isSettled = (answer: DnsAnswer<string>): boolean => !('detail' in answer);
