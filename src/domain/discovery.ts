import { effectivePool } from './effective-pool.ts';
import { KacmeError } from './errors.ts';
import type { DiscoverySpec, HostSpec, PoolSpec } from './model.ts';

/** A host as its source names it; name and port tell it from others. */
export interface FoundHost {
  /** What it is called: the target of its SRV record, else its address. */
  readonly name: string;
  /** Where it is connected to. */
  readonly address: string;
  readonly port: number;
}

export interface HostAnswer {
  readonly hosts: readonly FoundHost[];
  /** What could not be learned. An answer with doubts brings hosts and takes none away. */
  readonly doubts: readonly string[];
}

/** A host that stands in the pool because an answer named it. */
export interface Member extends FoundHost {
  /** When an answer first lacked it; undefined while they name it. */
  readonly missingSince: Date | undefined;
}

/** A file is read this often: cheap, and it notices what replaces it also where nothing notifies (NFS, bind mounts). */
const FILE_EVERY_MS = 2_000;

export const lookEveryMs = (source: DiscoverySpec): number =>
  source.kind === 'file' ? FILE_EVERY_MS : source.refreshMs;

/** As people and records call it. */
export function describeSource(source: DiscoverySpec): string {
  switch (source.kind) {
    case 'dns':
      return `A and AAAA records of ${source.name}`;
    case 'srv':
      return `SRV records of ${source.name}`;
    case 'file':
      return source.path;
  }
}

/** `ERR_HOSTS_UNKNOWN`. */
export function hostsUnknown(source: DiscoverySpec, reason: string, remedy: string): KacmeError {
  return new KacmeError(
    'ERR_HOSTS_UNKNOWN',
    `learn hosts from ${describeSource(source)}: ${reason}. Nobody is let go for that`,
    { retry: 'later', remedy },
  );
}

/**
 * Who stands in the pool after an answer. A host goes when two answers in a row lack it, at least half the time
 * between two looks apart: one answer of a resolver that lags behind, or half a file, ends nothing.
 */
export function afterAnswer(
  members: readonly Member[],
  { hosts, doubts }: HostAnswer,
  { now, everyMs }: { readonly now: Date; readonly everyMs: number },
): readonly Member[] {
  const listed = new Map(
    hosts.map((host): [string, Member] => [idOf(host), { ...host, missingSince: undefined }]),
  );
  const missing = members
    .filter((member) => !listed.has(idOf(member)))
    .flatMap((member): Member[] => {
      if (doubts.length > 0) return [member];
      const { missingSince = now } = member;
      const confirmed = now.getTime() - missingSince.getTime() >= everyMs / 2;
      return confirmed ? [] : [{ ...member, missingSince }];
    });
  return [...listed.values(), ...missing].sort(byName);
}

const collator = new Intl.Collator('en', { numeric: true });
const byName = (a: FoundHost, b: FoundHost): number => collator.compare(a.name, b.name) || a.port - b.port;

const idOf = ({ name, port }: FoundHost): string => `${name} ${port}`;

/** A host that is left out, and why. */
export interface LeftOut {
  readonly name: string;
  readonly reason: string;
}

export interface Arrangement {
  readonly hosts: readonly HostSpec[];
  readonly leftOut: readonly LeftOut[];
}

/**
 * The hosts of every pool, by its name. One HAProxy process belongs to one pool, under one name, since it has one
 * certificate transaction: what is found again stays where it stands first, listed hosts before discovered ones.
 */
export function arrangePools(
  pools: readonly PoolSpec[],
  membersOf: (pool: PoolSpec) => readonly FoundHost[],
): ReadonlyMap<string, Arrangement> {
  const owners = new Map<string, string>();
  const arranged = new Map<string, Arrangement>();
  for (const pool of pools.filter(({ discovery }) => discovery === undefined)) {
    for (const host of pool.hosts)
      for (const process of processesOf(pool, host)) owners.set(process, `${pool.name}/${host.name}`);
    arranged.set(pool.name, { hosts: pool.hosts, leftOut: [] });
  }
  for (const pool of pools.filter(({ discovery }) => discovery !== undefined)) {
    const leftOut: LeftOut[] = [];
    const hosts = specsOf(membersOf(pool)).filter((host) => {
      const processes = processesOf(pool, host);
      const owner = processes.map((process) => owners.get(process)).find((known) => known !== undefined);
      if (owner === undefined)
        for (const process of processes) owners.set(process, `${pool.name}/${host.name}`);
      else leftOut.push({ name: host.name, reason: `its HAProxy is ${owner} already` });
      return owner === undefined;
    });
    arranged.set(pool.name, { hosts, leftOut });
  }
  return arranged;
}

/** Of several at one name, each is told apart by its port. */
function specsOf(members: readonly FoundHost[]): readonly HostSpec[] {
  return members.map(({ name, address, port }) => {
    const alone = members.filter((other) => other.name === name).length === 1;
    const alias = name === address ? {} : { hostKeyName: name };
    return { name: alone ? name : `${name}:${port}`, address, port, ...alias };
  });
}

/** By the way in and the socket; the same address behind another jump host is another machine. */
function processesOf(pool: PoolSpec, host: HostSpec): readonly string[] {
  const { ssh, haproxy } = effectivePool(pool, host);
  const through =
    ssh === undefined ? 'local' : ssh.jumps.map(({ address, port }) => `${address} ${port}`).join(' ');
  return [haproxy.socket, haproxy.masterSocket]
    .filter((socket) => socket !== undefined)
    .map((socket) => [through, host.address, host.port, socket].join(' '));
}
