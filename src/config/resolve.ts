import { join } from 'node:path';
import type { DeploymentSpec, HostSpec, KacmeConfig, PoolSpec } from '../domain/model.ts';
import { resolveLimits } from './limits.ts';
import type { ConfigOutput } from './schema.ts';

type PoolOutput = ConfigOutput['pools'][string];
type HostOutput = NonNullable<PoolOutput['hosts']>[number];
type DeploymentOutput = ConfigOutput['deployments'][number];

/** Gives things their names and absent keys their meaning. Cannot fail: the schema and the rules have passed. */
export function resolveConfig(input: ConfigOutput): KacmeConfig {
  return {
    issuers: mapValues(input.issuers, ({ timeout, profile, eab, caFile, proxy, limits, ...issuer }, name) => {
      const rateLimits = resolveLimits(limits, issuer.directory);
      return { name, ...issuer, profile, eab, caFile, proxy, timeoutMs: timeout, limits: rateLimits };
    }),
    certificates: mapValues(input.certificates, ({ profile, ...certificate }, name) => ({
      name,
      ...certificate,
      profile,
    })),
    pools: mapValues(input.pools, resolvePool),
    deployments: input.deployments.map(resolveDeployment),
    challenge: input.challenge,
    operations: input.operations,
    control: { socket: input.control.socket ?? defaultControlSocket(input.store.file) },
    store: input.store,
    reconcile: { everyMs: input.reconcile.every },
    keepBundles: input.keepBundles,
    log: input.log,
  };
}

export function defaultControlSocket(storeFile: string): string {
  return join(storeFile, 'kacme.sock');
}

function resolvePool(pool: PoolOutput, name: string): PoolSpec {
  const { ssh, haproxy, verify } = pool;
  const shared = {
    name,
    ssh: ssh && {
      user: ssh.user,
      identity: ssh.identity,
      knownHosts: ssh.knownHosts,
      connectTimeoutMs: ssh.connectTimeout,
      sftp: ssh.sftp,
    },
    haproxy: { socket: haproxy.socket, masterSocket: haproxy.masterSocket },
    verify: { connect: verify.connect, handshakes: verify.handshakes, timeoutMs: verify.timeout },
    parallel: pool.parallel,
  };
  const defaultPort = ssh?.port ?? 22;
  const hosts = pool.hosts ?? [{ host: '127.0.0.1' }];
  return { ...shared, hosts: hosts.map((host) => resolveHost(host, shared, defaultPort)) };
}

function resolveHost(
  { host: address, port, ...settings }: HostOutput,
  pool: Omit<PoolSpec, 'hosts'>,
  defaultPort: number,
): HostSpec {
  const { name, user, identity, sftp, haproxy, verify } = settings;
  const login = given({ user, identity, sftp });
  const { timeout: timeoutMs, ...how } = verify ?? {};
  const overrides = given({
    ssh: pool.ssh !== undefined && Object.keys(login).length > 0 ? { ...pool.ssh, ...login } : undefined,
    haproxy: haproxy && { ...pool.haproxy, ...given(haproxy) },
    verify: verify && { ...pool.verify, ...given({ ...how, timeoutMs }) },
  });
  return {
    name: name ?? address,
    address,
    port: port ?? defaultPort,
    ...(Object.keys(overrides).length > 0 ? { overrides } : {}),
  };
}

type Given<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

/** Without the keys that were not given, which would otherwise hide what they are to be merged with. */
function given<T extends object>(settings: T): Given<T> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Given<T>;
}

function resolveDeployment(deployment: DeploymentOutput): DeploymentSpec {
  const { certificate, pool, path, file, copies, mode, owner, group, takeOver } = deployment;
  const bits = Number.parseInt(mode, 8);
  return { certificate, pool, path, file: file ?? path, copies, mode: bits, owner, group, takeOver };
}

function mapValues<In, Out>(
  record: Record<string, In>,
  map: (value: In, key: string) => Out,
): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]));
}
