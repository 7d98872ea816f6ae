import { isIPv4 } from 'node:net';
import { type FoundHost, type HostAnswer, hostsUnknown } from '../domain/discovery.ts';
import type { DnsAnswer } from '../domain/dns.ts';
import type { DiscoverySpec, Listen } from '../domain/model.ts';
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

/** The adapter for all kinds of sources. */
export function createHostDirectory({ resolverFor, readHostsFile }: HostDirectoryOptions): HostDirectory {
  return {
    hosts: async (source, { signal }) => {
      switch (source.kind) {
        case 'dns':
          return hostsByAddress(source, resolverFor(source), { signal });
        case 'srv':
          return hostsByService(source, resolverFor(source), { signal });
        case 'file':
          return { hosts: await readHostsFile(source, { signal }), doubts: [] };
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
  const records = recordsOf(answer).filter(({ target }) => target !== '');
  if (records.length === 0) throw noHosts(source, answer);
  const targets = [...new Set(records.map(({ target }) => target))];
  const found = new Map(
    await Promise.all(
      targets.map(async (target) => [target, await addressOf(target, resolver, options)] as const),
    ),
  );
  const hosts = records.flatMap(({ target, port }): FoundHost[] => {
    const { address } = found.get(target) ?? {};
    return address === undefined ? [] : [{ name: target, address, port }];
  });
  const doubts = [...found.values()].flatMap((target) => target.doubts);
  if (hosts.length === 0)
    throw hostsUnknown(source, doubts.join('; '), `give each target of ${source.name} an address record`);
  return { hosts, doubts };
}

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
