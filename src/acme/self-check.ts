import { isIPv6, type LookupFunction } from 'node:net';
import { addressesOf } from '../domain/dns.ts';
import { KacmeError } from '../domain/errors.ts';
import type { SelfCheckSpec } from '../domain/model.ts';
import type { Resolver } from '../ports/resolver.ts';
import type { ChallengeProbe, ProbeOutcome, SelfCheck } from '../ports/self-check.ts';
import { Deadline } from './deadline.ts';
import { readNetworkFailure } from './network-failure.ts';
import { bare, type Destination, fetchHop, type Hop, isRedirect, portOf } from './self-check-hop.ts';
import { quote } from './transport.ts';

const WITHIN_MS = 10_000;

/** As Let's Encrypt follows them: http-01 leaves port 80 only for 443, and not for ever. */
const MAX_REDIRECTS = 10;
const FOLLOWED_SCHEMES: ReadonlySet<string> = new Set(['http:', 'https:']);
const FOLLOWED_PORTS: ReadonlySet<string> = new Set(['', '80', '443']);

/** What a machine without IPv6 says of every IPv6 address. */
const NO_IPV6: ReadonlySet<unknown> = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/**
 * The self-check that the configuration asks for; undefined when it is off. With `via` every request goes to that
 * address, for where the names lead elsewhere from here than from outside. `resolver` finds the hosts that a redirect
 * names; without one the system does.
 */
export function createSelfCheck(
  setting: 'off' | SelfCheckSpec,
  resolver: Resolver | undefined,
): SelfCheck | undefined {
  if (setting === 'off') return undefined;
  const via = setting.via === undefined ? undefined : new URL(setting.via);
  return {
    via: via?.origin,
    passes: setting.passes,
    fetch: async (probe, { signal }) => {
      const deadline = new Deadline(WITHIN_MS, { signal });
      const check: Walk = { probe, via, resolver, trail: [] };
      try {
        await walk(check, deadline);
        return { state: 'answered' };
      } catch (error) {
        if (error instanceof KacmeError && error.code === 'ERR_CHALLENGE_UNREACHABLE') throw error;
        signal.throwIfAborted();
        return untestable(check, error) ?? failed(check, deadline, error);
      } finally {
        deadline.clear();
      }
    },
  };
}

interface Walk {
  readonly probe: ChallengeProbe;
  readonly via: URL | undefined;
  readonly resolver: Resolver | undefined;
  /** Every URL asked, in order. */
  readonly trail: string[];
}

async function walk(check: Walk, { signal }: { signal: AbortSignal }): Promise<void> {
  const { probe, trail, resolver } = check;
  const { identifier, token, keyAuthorization } = probe;
  const authority = identifier.includes(':') ? `[${identifier}]` : identifier;
  const first = new URL(`http://${authority}/.well-known/acme-challenge/${token}`);
  const lookup = resolver === undefined ? undefined : lookupThrough(resolver, { signal });
  let url = first;
  for (let redirects = 0; ; redirects++) {
    trail.push(url.href);
    const destination = url.hostname === first.hostname ? destinationOf(check) : undefined;
    const hop = await fetchHop(url, { destination, lookup }, { signal });
    if (!isRedirect(hop)) {
      // RFC 8555 section 8.3: white space at the end does not count.
      if (hop.status === 200 && hop.body.trimEnd() === keyAuthorization) return;
      throw unreachable(check, wrongAnswer(hop));
    }
    if (redirects === MAX_REDIRECTS) {
      throw unreachable(check, `more than ${MAX_REDIRECTS} redirects, where the CA gives up`);
    }
    url = followed(check, url, hop.location);
  }
}

function destinationOf({ via, probe: { address } }: Walk): Destination | undefined {
  if (via !== undefined) return { host: bare(via.hostname), httpPort: portOf(via) };
  return address === undefined ? undefined : { host: address, httpPort: undefined };
}

/** As the names of a redirect are found for an agent of node:http. */
function lookupThrough(resolver: Resolver, options: { signal: AbortSignal }): LookupFunction {
  return (hostname, { all }, callback) => {
    const found = async () => addressesOf(hostname, await resolver.addresses(hostname, options)).addresses;
    found().then(
      (addresses) => {
        const list = addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }));
        const [first] = list;
        if (all === true) callback(null, list);
        else callback(null, first?.address ?? '', first?.family);
      },
      (error: Error) => callback(error, ''),
    );
  };
}

function wrongAnswer({ status, body }: Hop): string {
  const answer = `HTTP ${status} and ${quote(body)}`;
  if (status !== 200) return `it answers ${answer}`;
  return `it answers ${answer}, which is not what kacme serves: the request went to somebody else`;
}

function followed(check: Walk, from: URL, location: string): URL {
  if (!URL.canParse(location, from.href)) {
    throw unreachable(check, `it redirects to ${quote(location)}, which is no URL`);
  }
  const url = new URL(location, from.href);
  if (!FOLLOWED_SCHEMES.has(url.protocol) || !FOLLOWED_PORTS.has(url.port)) {
    throw unreachable(check, `it redirects to ${url.href}, and the CA follows to ports 80 and 443 only`);
  }
  return url;
}

/** A machine without IPv6 cannot judge an IPv6 address, which the CA may reach all the same. */
function untestable({ via, probe: { address } }: Walk, error: unknown): ProbeOutcome | undefined {
  if (via !== undefined || address === undefined || !isIPv6(address)) return undefined;
  if (!(error instanceof Error) || !('code' in error) || !NO_IPV6.has(error.code)) return undefined;
  return { state: 'untestable', reason: `this machine has no way to IPv6 addresses (${String(error.code)})` };
}

function failed(check: Walk, { expired }: Deadline, error: unknown): never {
  const why = error instanceof KacmeError ? error.message : readNetworkFailure(error).reason;
  const reason = expired ? `no complete answer within ${WITHIN_MS / 1_000} s` : why;
  throw unreachable(check, reason, { cause: error });
}

function unreachable({ probe, via, trail }: Walk, reason: string, options?: ErrorOptions): KacmeError {
  const { identifier, address } = probe;
  const path = trail.join(' -> ');
  const to = address === undefined || address === identifier ? '' : ` (to ${address})`;
  const through = via === undefined ? to : ` (via ${via.origin})`;
  const direct = `let every A and AAAA record of ${identifier} lead to HAProxy, and let HAProxy forward /.well-known/acme-challenge/ on port 80 to challenge.listen, ahead of any redirect; where the name leads elsewhere from here, set challenge.selfCheck.via`;
  return new KacmeError(
    'ERR_CHALLENGE_UNREACHABLE',
    `self-check of the challenge for ${identifier}: ${path}${through}: ${reason}. The CA was not asked`,
    {
      ...options,
      retry: 'later',
      remedy:
        via === undefined
          ? direct
          : `let ${via.origin} be HAProxy's port 80, and let HAProxy forward /.well-known/acme-challenge/ to challenge.listen, ahead of any redirect`,
    },
  );
}
