import { addressData, type DnsReply, type FaultyDns, serviceData, startFaultyDns } from './dns-server.ts';

export const SERVICE = '_haproxy-ssh._tcp.hosts.test';
export const NAME = 'hosts.test';

interface ZoneHost {
  readonly address: string;
  readonly sshd: { readonly port: number };
  readonly target?: string;
}

/** A name server that names hosts: `SERVICE` by SRV records, `NAME` by addresses. Change it as you like. */
export interface DnsZone extends FaultyDns {
  /** As resolvers are configured. */
  readonly server: string;
  hosts: readonly ZoneHost[];
  /** Given in the place of every answer; `silent`: none at all. */
  fault: DnsReply | 'silent' | undefined;
}

/** The target that stands for a host in SRV records. */
export const targetOf = ({ address, target }: Pick<ZoneHost, 'address' | 'target'>): string =>
  target ?? `lb-${address.replaceAll('.', '-')}.test`;

export async function startDnsZone(): Promise<DnsZone> {
  const state: Pick<DnsZone, 'hosts' | 'fault'> = { hosts: [], fault: undefined };
  const dns = await startFaultyDns(({ name, type }) => {
    if (state.fault !== undefined) return state.fault === 'silent' ? undefined : state.fault;
    if (name === SERVICE && type === 'SRV')
      return {
        records: state.hosts.map((host) => ({ type, data: serviceData(targetOf(host), host.sshd.port) })),
      };
    const named = name === NAME ? state.hosts : state.hosts.filter((host) => targetOf(host) === name);
    if (type === 'A') return { records: named.map(({ address }) => ({ type, data: addressData(address) })) };
    return {};
  });
  return Object.assign(state, { ...dns, server: `${dns.listen.host}:${dns.listen.port}` });
}
