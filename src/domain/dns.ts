import type { CaaAnswer, CaaRecord } from './caa.ts';
import { type ErrorCode, KacmeError } from './errors.ts';

/**
 * What resolvers answered to one question (RFC 1035 section 4.1.1, RFC 2308), aliases followed. `resolver` is who
 * said so; all that were asked, where none gave an answer.
 */
export type DnsAnswer<T> =
  | { readonly state: 'found'; readonly records: readonly T[]; readonly resolver: string }
  /** `no records`: the name exists, and has none of this type. */
  | { readonly state: 'no such name' | 'no records'; readonly resolver: string }
  /** `server failure`: it answered that it cannot answer. `no answer`: silence, or nothing listens there. */
  | {
      readonly state: 'server failure' | 'no answer';
      readonly resolver: string;
      /** In words for people, such as `SERVFAIL`. */
      readonly detail: string;
    };

/** An SRV record (RFC 2782), as far as it says where a service is; `target` is in lower case, without the final dot. */
export interface ServiceRecord {
  readonly target: string;
  readonly port: number;
}

type DnsFailure = Extract<DnsAnswer<never>, { readonly detail: string }>;

export interface AddressAnswers {
  readonly ipv4: DnsAnswer<string>;
  readonly ipv6: DnsAnswer<string>;
}

export interface FoundAddresses {
  /** IPv6 first, as CAs connect; at least one. */
  readonly addresses: readonly string[];
  /** What could not be learned, such as whether there is an AAAA record. */
  readonly doubts: readonly string[];
}

/**
 * Where a name leads to: one family is enough, as for the CA. Throws `ERR_DNS_*` when there is no address, or none
 * can be learned.
 */
export function addressesOf(name: string, { ipv4, ipv6 }: AddressAnswers): FoundAddresses {
  const addresses = [ipv6, ipv4].flatMap((answer) => (answer.state === 'found' ? answer.records : []));
  const failures = [
    { type: 'A', answer: ipv4 },
    { type: 'AAAA', answer: ipv6 },
  ].flatMap(({ type, answer }) => ('detail' in answer ? [{ type, answer }] : []));
  if (addresses.length > 0)
    return { addresses, doubts: failures.map(({ type, answer }) => describe(name, type, answer)) };
  const [failure] = failures;
  if (failure !== undefined) throw unanswered(name, failure.type, failure.answer);
  const { resolver } = ipv4;
  if (ipv4.state === 'no such name' || ipv6.state === 'no such name')
    throw dnsError(
      'ERR_DNS_NO_SUCH_NAME',
      `${name} does not exist in DNS: ${resolver} answered NXDOMAIN`,
      `create A or AAAA records for ${name} that lead to HAProxy's port 80, or correct the identifier; if the internet sees the name and ${resolver} does not, set challenge.resolvers`,
    );
  throw dnsError(
    'ERR_DNS_NO_ADDRESS',
    `${name} has neither an A nor an AAAA record, as ${resolver} answered`,
    `add A or AAAA records for ${name} (or for what it is an alias of) that lead to HAProxy's port 80`,
  );
}

/** For `judgeCaa`: a name that does not exist has no records (RFC 8659 section 3). */
export function caaAnswerOf(answer: DnsAnswer<CaaRecord>): CaaAnswer {
  if (answer.state === 'found') return answer.records;
  if ('detail' in answer) return { failure: `${answer.resolver}: ${answer.detail}` };
  return [];
}

function unanswered(name: string, type: string, answer: DnsFailure): KacmeError {
  const what = describe(name, type, answer);
  if (answer.state === 'server failure')
    return dnsError(
      'ERR_DNS_SERVER_FAILURE',
      what,
      `repair the name servers of ${name} (its delegation, its DNSSEC signatures), or set challenge.resolvers if only ${answer.resolver} fails`,
    );
  return dnsError(
    'ERR_DNS_NO_ANSWER',
    what,
    `see that ${answer.resolver} is up and answers this machine on UDP and TCP, or set challenge.resolvers to resolvers that do`,
  );
}

const describe = (name: string, type: string, { resolver, detail }: DnsFailure): string =>
  `look up the ${type} records of ${name} at ${resolver}: ${detail}`;

const dnsError = (code: ErrorCode, message: string, remedy: string): KacmeError =>
  new KacmeError(code, `${message}. The CA was not asked`, { retry: 'later', remedy });
