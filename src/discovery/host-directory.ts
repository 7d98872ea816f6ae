import { isIP, isIPv4 } from 'node:net';
import { type FoundHost, type HostAnswer, hostsUnknown } from '../domain/discovery.ts';
import type { DnsAnswer, ServiceRecord } from '../domain/dns.ts';
import { Lane } from '../domain/lane.ts';
import type { DiscoverySpec, Listen } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { HostDirectory } from '../ports/host-directory.ts';
import type { Resolver } from '../ports/resolver.ts';

type SourceOf<Kind extends DiscoverySpec['kind']> = Extract<DiscoverySpec, { readonly kind: Kind }>;

export interface HostDirectoryOptions {
  readonly resolverFor: (servers: { readonly resolvers: readonly Listen[] | undefined }) => Resolver;
  /** Throws `ERR_HOSTS_UNKNOWN`. */
  readonly readHostsFile: (
    source: SourceOf<'file'>,
    options: { signal: AbortSignal },
  ) => Promise<readonly FoundHost[]>;
}

/** Of one look, whatever the number of targets. */
const WITHIN_MS = 30_000;
/** Targets that are looked up side by side. */
const LOOKUPS_AT_ONCE = 16;

/**
 * Targets stand in lines of known_hosts and in commands that operators are told to run, so that nothing else passes: a
 * `*` would pin one key for every host.
 */
const HOST_NAME = /^(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*$/;

/** The adapter for all kinds of sources. */
export function createHostDirectory({ resolverFor, readHostsFile }: HostDirectoryOptions): HostDirectory {
  const ask = async (source: DiscoverySpec, options: { signal: AbortSignal }): Promise<HostAnswer> => {
    switch (source.kind) {
      case 'dns':
        return hostsByAddress(source, resolverFor(source), options);
      case 'srv':
        return hostsByService(source, resolverFor(source), options);
      case 'file':
        return { hosts: await readHostsFile(source, options), doubts: [] };
    }
  };
  return {
    hosts: async (source, { signal }) => {
      const late = AbortSignal.timeout(WITHIN_MS);
      try {
        return await ask(source, { signal: AbortSignal.any([signal, late]) });
      } catch (error) {
        signal.throwIfAborted();
        if (!late.aborted) throw error;
        const remedy = 'see that its resolvers, or what the file lies on, answer quickly';
        throw hostsUnknown(source, `no whole answer within ${WITHIN_MS / 1_000} s`, remedy);
      }
    },
  };
}

async function hostsByAddress(
  source: SourceOf<'dns'>,
  resolver: Resolver,
  options: { signal: AbortSignal },
): Promise<HostAnswer> {
  const { ipv4, ipv6 } = await resolver.addresses(source.name, options);
  const addresses = [...recordsOf(ipv4), ...recordsOf(ipv6)];
  if (addresses.length === 0) throw noHosts(source, 'detail' in ipv6 ? ipv6 : ipv4);
  return {
    hosts: addresses.map((address) => ({ name: address, address, port: source.port })),
    doubts: [...doubtsOf('A', source.name, ipv4), ...doubtsOf('AAAA', source.name, ipv6)],
  };
}

async function hostsByService(
  source: SourceOf<'srv'>,
  resolver: Resolver,
  options: { signal: AbortSignal },
): Promise<HostAnswer> {
  const answer = await resolver.services(source.name, options);
  // A lone target of "." says that the service is decidedly not available there (RFC 2782).
  const named = recordsOf(answer).filter(({ target }) => target !== '');
  if (named.length === 0) throw noHosts(source, answer);
  const records = named.filter(isUsable);
  const unusable = named
    .filter((record) => !isUsable(record))
    .map(({ target, port }) => `${JSON.stringify(target)} at port ${port} is no host name and port`);
  const targets = [...new Set(records.map(({ target }) => target))];
  const lane = new Lane(LOOKUPS_AT_ONCE);
  const found = new Map(
    await waitForAll(
      targets.map(async (target) => {
        const address = await lane.run(() => addressOf(target, resolver, options), options);
        return [target, address] as const;
      }),
    ),
  );
  const hosts = records.flatMap(({ target, port }): FoundHost[] => {
    const { address } = found.get(target) ?? {};
    return address === undefined ? [] : [{ name: target, address, port }];
  });
  const doubts = [...unusable, ...[...found.values()].flatMap((target) => target.doubts)];
  if (hosts.length === 0)
    throw hostsUnknown(source, doubts.join('; '), `give each target of ${source.name} an address record`);
  return { hosts, doubts };
}

const isUsable = ({ target, port }: ServiceRecord): boolean =>
  target.length <= 253 && HOST_NAME.test(target) && !isIP(target) && port > 0;

/** The same one each time, whatever the order of the records; IPv4 if there is any, which every network has. */
async function addressOf(
  target: string,
  resolver: Resolver,
  options: { signal: AbortSignal },
): Promise<{ readonly address: string | undefined; readonly doubts: readonly string[] }> {
  const { ipv4, ipv6 } = await resolver.addresses(target, options);
  const addresses = [...recordsOf(ipv4), ...recordsOf(ipv6)];
  const [address] = addresses.sort((a, b) => Number(isIPv4(b)) - Number(isIPv4(a)) || (a < b ? -1 : 1));
  if (address !== undefined) return { address, doubts: [] };
  const failures = [...doubtsOf('A', target, ipv4), ...doubtsOf('AAAA', target, ipv6)];
  return {
    address,
    doubts: failures.length > 0 ? failures : [`${target} has no address, says ${ipv4.resolver}`],
  };
}

const recordsOf = <T>(answer: DnsAnswer<T>): readonly T[] => (answer.state === 'found' ? answer.records : []);

const doubtsOf = <T>(type: string, name: string, answer: DnsAnswer<T>): readonly string[] =>
  'detail' in answer ? [`${type} records of ${name} at ${answer.resolver}: ${answer.detail}`] : [];

function noHosts<T>(source: SourceOf<'dns' | 'srv'>, answer: DnsAnswer<T>) {
  const { resolver } = answer;
  const remedy = `see what \`dig @RESOLVER ${source.name} ${source.kind === 'srv' ? 'SRV' : 'A'}\` says, and correct the records or the resolvers of this source`;
  if ('detail' in answer) return hostsUnknown(source, `${resolver}: ${answer.detail}`, remedy);
  const said = answer.state === 'no such name' ? 'the name does not exist (NXDOMAIN)' : 'it names no host';
  return hostsUnknown(source, `${said}, says ${resolver}`, remedy);
}
