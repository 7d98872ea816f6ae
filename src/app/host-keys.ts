import { effectivePool } from '../domain/effective-pool.ts';
import { Lane } from '../domain/lane.ts';
import type { JumpSpec, KacmeConfig, PoolSpec, SshSpec } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { HostKeyScan, ScanHostKeys, SshdTarget } from '../ports/host-key-scan.ts';
import { unknownName } from './names.ts';

export interface ScanRequest {
  /** Names of hosts, or addresses of jump hosts; empty: all of them. */
  readonly names: readonly string[];
  readonly pool: string | undefined;
  /** In the place of the hosts' configured port. */
  readonly port: number | undefined;
}

/** A host takes three connections one after the other, and its own time if it is down. */
const SIDE_BY_SIDE = 64;

/**
 * The host keys of the sshds that are asked for, and of the jump hosts on the way to them. Throws `ERR_UNKNOWN_NAME`
 * before anything is connected to.
 */
export async function scanHosts(
  config: KacmeConfig,
  request: ScanRequest,
  scan: ScanHostKeys,
  options: { signal: AbortSignal },
): Promise<readonly HostKeyScan[]> {
  const lane = new Lane(SIDE_BY_SIDE);
  return waitForAll(
    sshdsNamed(config, request).map((target) => lane.run(() => scan(target, options), options)),
  );
}

/** In the order of the configuration, each jump host before what is behind it. */
function sshdsNamed({ pools }: KacmeConfig, { names, pool, port }: ScanRequest): readonly SshdTarget[] {
  if (pool !== undefined && !Object.hasOwn(pools, pool)) throw unknownName('pool', pool, Object.keys(pools));
  const all = Object.values(pools)
    .filter(({ name }) => pool === undefined || name === pool)
    .flatMap((spec) => sshdsOf(spec, port));
  const unknown = names.find((name) => !all.some((sshd) => sshd.name === name));
  if (unknown !== undefined)
    throw unknownName('host', unknown, [...new Set(all.map(({ name }) => name))], 'that SSH leads to');
  const wanted = all.filter(({ name }) => names.length === 0 || names.includes(name));
  // Pools share jump hosts.
  const distinct = new Map(wanted.map((sshd) => [JSON.stringify({ ...sshd, pool: '' }), sshd]));
  return [...distinct.values()];
}

function sshdsOf(pool: PoolSpec, port: number | undefined): readonly SshdTarget[] {
  const { ssh } = pool;
  if (ssh === undefined) return [];
  const jumps = ssh.jumps.map((jump, index) => jumpTarget(pool, ssh, jump, ssh.jumps.slice(0, index)));
  const hosts = pool.hosts.map((host): SshdTarget => {
    const { knownHosts, connectTimeoutMs, jumps } = effectivePool(pool, host).ssh ?? ssh;
    const { name, address, hostKeyName } = host;
    const login = { knownHosts, connectTimeoutMs, jumps };
    return { pool: pool.name, name, role: 'host', address, port: port ?? host.port, hostKeyName, ...login };
  });
  return [...jumps, ...hosts];
}

function jumpTarget(
  { name: pool }: PoolSpec,
  { connectTimeoutMs }: SshSpec,
  { address, port, knownHosts }: JumpSpec,
  jumps: readonly JumpSpec[],
): SshdTarget {
  return { pool, name: address, role: 'jump host', address, port, knownHosts, connectTimeoutMs, jumps };
}
