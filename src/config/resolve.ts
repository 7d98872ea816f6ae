import { join } from 'node:path';
import { halfName, keyFamilyOf } from '../domain/dual.ts';
import type {
  CertificateSpec,
  DeploymentSpec,
  DiscoverySpec,
  HostSpec,
  JumpSpec,
  KacmeConfig,
  KeyFamily,
  KeyType,
  PoolSpec,
  ReloadSpec,
  VerifySpec,
} from '../domain/model.ts';
import { resolveLimits } from './limits.ts';
import { type ConfigOutput, DEFAULT_PASSES } from './schema.ts';

type PoolOutput = ConfigOutput['pools'][string];
type SshOutput = NonNullable<PoolOutput['ssh']>;
type HostsOutput = NonNullable<PoolOutput['hosts']>;
type HostOutput = Extract<HostsOutput, readonly unknown[]>[number];
type DiscoveryOutput = Exclude<HostsOutput, readonly unknown[]>;
type DeploymentOutput = ConfigOutput['deployments'][number];

/** Gives things their names and absent keys their meaning. Cannot fail: the schema and the rules have passed. */
export function resolveConfig(input: ConfigOutput): KacmeConfig {
  return {
    issuers: mapValues(
      input.issuers,
      ({ timeout, profile, preferredChain, eab, caFile, proxy, limits, stagingFirst, ...issuer }, name) => {
        const rateLimits = resolveLimits(limits, issuer.directory);
        return {
          name,
          ...issuer,
          profile,
          preferredChain,
          eab,
          caFile,
          proxy,
          timeoutMs: timeout,
          limits: rateLimits,
          stagingFirst,
        };
      },
    ),
    certificates: resolveCertificates(input.certificates),
    pools: mapValues(input.pools, resolvePool),
    deployments: input.deployments.flatMap((deployment) => resolveDeployment(deployment, input.certificates)),
    challenge: resolveChallenge(input.challenge),
    operations: input.operations,
    control: { socket: input.control.socket ?? defaultControlSocket(input.store.file) },
    store: input.store,
    reconcile: { everyMs: input.reconcile.every },
    keepBundles: input.keepBundles,
    log: input.log,
  };
}

function resolveChallenge({
  listen,
  resolvers,
  selfCheck,
}: ConfigOutput['challenge']): KacmeConfig['challenge'] {
  const { via, passes = DEFAULT_PASSES }: { via?: string | undefined; passes?: number } =
    typeof selfCheck === 'string' ? {} : selfCheck;
  return { listen, resolvers, selfCheck: selfCheck === 'off' ? 'off' : { via, passes } };
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
      jumps: resolveJumps(ssh),
    },
    haproxy: { socket: haproxy.socket, masterSocket: haproxy.masterSocket },
    verify: resolveVerify(verify),
    reload: resolveReload(pool),
    ...resolveWindow(pool),
    parallel: pool.parallel,
    stopAfter: pool.stopAfter,
  };
  const defaultPort = ssh?.port ?? 22;
  const { hosts = [{ host: '127.0.0.1' }] } = pool;
  if (!Array.isArray(hosts)) return { ...shared, hosts: [], discovery: resolveDiscovery(hosts, defaultPort) };
  // The master socket reloads by itself unless the operator does not want it, a host's own one too.
  const own = pool.reload === undefined ? { reload: BY_MASTER } : {};
  return { ...shared, hosts: hosts.map((host) => resolveHost(host, shared, defaultPort, own)) };
}

function resolveVerify({
  connect,
  handshakes,
  timeout: timeoutMs,
  through,
}: PoolOutput['verify']): VerifySpec {
  return { connect, handshakes, timeoutMs, ...(through === undefined ? {} : { through }) };
}

const DEFAULT_REFRESH_MS = 60_000;

/** The rules have seen to it that there is exactly one source. */
function resolveDiscovery(
  { dns, srv, file: path = '', resolvers, refresh: refreshMs = DEFAULT_REFRESH_MS }: DiscoveryOutput,
  port: number,
): DiscoverySpec {
  if (dns !== undefined) return { kind: 'dns', name: dns, port, resolvers, refreshMs };
  if (srv !== undefined) return { kind: 'srv', name: srv, resolvers, refreshMs };
  return { kind: 'file', path, port };
}

function resolveJumps({ jump = [], ...pool }: SshOutput): readonly JumpSpec[] {
  return [jump].flat().map(({ host: address, port, user, identity, knownHosts }) => ({
    address,
    port,
    user: user ?? pool.user,
    identity: identity ?? pool.identity,
    knownHosts: knownHosts ?? pool.knownHosts,
  }));
}

function resolveWindow({ maintenanceWindow }: PoolOutput): Pick<PoolSpec, 'maintenanceWindow'> {
  if (maintenanceWindow === undefined) return {};
  const { from: fromMinute, to: toMinute, ...rest } = maintenanceWindow;
  return { maintenanceWindow: { ...rest, fromMinute, toMinute } };
}

const BY_MASTER: ReloadSpec = {
  command: undefined,
  prepare: undefined,
  validate: undefined,
  on: 'host',
  timeoutMs: 30_000,
};

function resolveReload({ reload, haproxy }: PoolOutput): ReloadSpec | undefined {
  if (reload === 'off' || (reload === undefined && haproxy.masterSocket === undefined)) return undefined;
  if (reload === undefined || reload === 'masterSocket') return BY_MASTER;
  const { command, prepare, validate, on, timeout } = reload;
  return { command, prepare, validate, on, timeoutMs: timeout };
}

function resolveHost(
  { host: address, port, ...settings }: HostOutput,
  pool: Omit<PoolSpec, 'hosts'>,
  defaultPort: number,
  ofMasterSocket: Pick<PoolSpec, 'reload'> | Record<never, never>,
): HostSpec {
  const { name, user, identity, sftp, haproxy, verify } = settings;
  const login = given({ user, identity, sftp });
  const { timeout: timeoutMs, ...how } = verify ?? {};
  const overrides = given({
    ssh: pool.ssh !== undefined && Object.keys(login).length > 0 ? { ...pool.ssh, ...login } : undefined,
    haproxy: haproxy && { ...pool.haproxy, ...given(haproxy) },
    verify: verify && { ...pool.verify, ...given({ ...how, timeoutMs }) },
    ...(haproxy?.masterSocket === undefined || pool.reload !== undefined ? {} : ofMasterSocket),
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

/** A dual certificate becomes two: all that follows knows certificates of one key only. */
function resolveCertificates(certificates: ConfigOutput['certificates']): KacmeConfig['certificates'] {
  const specs = Object.entries(certificates).flatMap(
    ([name, { key, profile, preferredChain, ...rest }]): CertificateSpec[] => {
      const certificate = { ...rest, profile, preferredChain };
      if (!Array.isArray(key)) return [{ name, ...certificate, key }];
      return key.map((type) => ({
        name: nameOfHalf(name, key, type),
        ...certificate,
        key: type,
        dualOf: name,
      }));
    },
  );
  return Object.fromEntries(specs.map((spec) => [spec.name, spec]));
}

/** The key type named first goes on with what the store holds under the certificate's own name. */
function nameOfHalf(name: string, types: readonly KeyType[], type: KeyType): string {
  return type === types[0] ? name : halfName(name, keyFamilyOf(type));
}

function resolveDeployment(
  { certificate, path, file, copies, mode, ...deployment }: DeploymentOutput,
  certificates: ConfigOutput['certificates'],
): DeploymentSpec[] {
  const { pool, owner, group, takeOver, crtList: list, crtListFile } = deployment;
  const crtList = list === undefined ? {} : { crtList: { path: list, file: crtListFile ?? list } };
  const same = { pool, mode: Number.parseInt(mode, 8), owner, group, takeOver, ...crtList };
  const types = [certificates[certificate]?.key ?? []].flat();
  return types.map((type) => {
    const family = keyFamilyOf(type);
    const own = ofFamily(path, family);
    return {
      certificate: nameOfHalf(certificate, types, type),
      path: own,
      file: file === undefined ? own : ofFamily(file, family),
      copies: ofFamily(copies, family),
      ...same,
      ...(types.length > 1 ? { family } : {}),
    };
  });
}

function ofFamily<Value extends string | readonly string[]>(
  value: Value | { readonly [family in KeyFamily]: Value },
  family: KeyFamily,
): Value {
  return isPerFamily(value) ? value[family] : value;
}

function isPerFamily<Value>(
  value: Value | { readonly [family in KeyFamily]: Value },
): value is { readonly [family in KeyFamily]: Value } {
  return typeof value === 'object' && !Array.isArray(value);
}

function mapValues<In, Out>(
  record: Record<string, In>,
  map: (value: In, key: string) => Out,
): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]));
}
