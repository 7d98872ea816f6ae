import { stringify } from 'yaml';
import type { MaintenanceWindow } from '../domain/maintenance-window.ts';
import type {
  DeploymentSpec,
  DiscoverySpec,
  HaproxySpec,
  HostSpec,
  IssuerSpec,
  KacmeConfig,
  PoolSpec,
  ProxySpec,
  ReloadSpec,
  SelfCheckSpec,
  VerifySpec,
} from '../domain/model.ts';
import { formatEndpoint } from './address.ts';
import { formatDuration } from './duration.ts';
import { describeLimits } from './limits.ts';
import { type ConfigInput, DEFAULT_PASSES } from './schema.ts';

/** The configuration in force as YAML: overlays applied, defaults filled in, secrets only as references. */
export function describeConfig(config: KacmeConfig): string {
  return stringify(effectiveConfig(config), { lineWidth: 0, aliasDuplicateObjects: false });
}

/** The same as bare values. What it returns can be loaded again and means the same. */
export function effectiveConfig(config: KacmeConfig): ConfigInput {
  const { challenge, operations, control, store, reconcile, keepBundles, log } = config;
  return {
    issuers: mapValues(config.issuers, describeIssuer),
    certificates: describeCertificates(config.certificates),
    pools: mapValues(config.pools, describePool),
    deployments: describeDeployments(config),
    challenge: describeChallenge(challenge),
    operations: { listen: formatEndpoint(operations.listen) },
    control: { socket: control.socket },
    store: { file: store.file },
    reconcile: { every: formatDuration(reconcile.everyMs) },
    keepBundles,
    log: { level: log.level },
  };
}

function describeChallenge({
  listen,
  resolvers,
  selfCheck,
}: KacmeConfig['challenge']): ConfigInput['challenge'] {
  return {
    listen: formatEndpoint(listen),
    resolvers: typeof resolvers === 'object' ? resolvers.map(formatEndpoint) : resolvers,
    selfCheck: describeSelfCheck(selfCheck),
  };
}

function describeSelfCheck(
  selfCheck: 'off' | SelfCheckSpec,
): NonNullable<ConfigInput['challenge']>['selfCheck'] {
  if (selfCheck === 'off') return selfCheck;
  const { via, passes } = selfCheck;
  if (via === undefined && passes === DEFAULT_PASSES) return 'direct';
  return { via: via && withoutPassword(via), passes };
}

function describeIssuer({
  directory,
  contact,
  profile,
  preferredChain,
  eab,
  caFile,
  proxy,
  timeoutMs,
  limits,
  stagingFirst,
}: IssuerSpec) {
  return {
    directory: withoutPassword(directory),
    contact: [...contact],
    termsOfServiceAgreed: true as const,
    profile,
    preferredChain,
    eab: eab && { keyId: eab.keyId, hmacKey: eab.hmacKey },
    caFile,
    proxy: proxy && describeProxy(proxy),
    timeout: formatDuration(timeoutMs),
    limits: describeLimits(limits, directory),
    stagingFirst,
  };
}

function describeProxy({ url, credentials }: ProxySpec) {
  const shown = withoutPassword(url);
  return credentials === undefined
    ? shown
    : { url: shown, user: credentials.user, password: credentials.password };
}

function describePool({
  hosts,
  discovery,
  ssh,
  haproxy,
  verify,
  reload,
  maintenanceWindow,
  parallel,
  stopAfter,
}: PoolSpec): ConfigInput['pools'][string] {
  return {
    hosts:
      discovery === undefined
        ? hosts.map((host) => describeHost(host, { local: ssh === undefined }))
        : describeDiscovery(discovery),
    local: ssh === undefined,
    ssh: ssh && {
      user: ssh.user,
      identity: ssh.identity,
      knownHosts: ssh.knownHosts,
      connectTimeout: formatDuration(ssh.connectTimeoutMs),
      sftp: ssh.sftp,
      ...(ssh.jumps.length > 0 && {
        jump: ssh.jumps.map(({ address, ...jump }) => ({ host: address, ...jump })),
      }),
    },
    haproxy: describeHaproxy(haproxy),
    verify: describeVerify(verify),
    // Where only some hosts have a master socket, what is not said is what makes them reload.
    ...(hosts.some(({ overrides }) => overrides?.reload !== undefined)
      ? {}
      : { reload: describeReload(reload) }),
    ...(maintenanceWindow && { maintenanceWindow: describeWindow(maintenanceWindow) }),
    parallel,
    stopAfter,
  };
}

type PoolInput = ConfigInput['pools'][string];

function describeReload(reload: ReloadSpec | undefined): PoolInput['reload'] {
  if (reload === undefined) return 'off';
  const { command, prepare, validate, on, timeoutMs } = reload;
  return {
    ...(command && { command: [...command] }),
    ...(prepare && { prepare: [...prepare] }),
    ...(validate && { validate: [...validate] }),
    on,
    timeout: formatDuration(timeoutMs),
  };
}

function describeWindow({ days, fromMinute, toMinute, timezone }: MaintenanceWindow) {
  return { days: [...days], from: timeOfDay(fromMinute), to: timeOfDay(toMinute), timezone };
}

const timeOfDay = (minutes: number): string =>
  [Math.floor(minutes / 60), minutes % 60].map((part) => String(part).padStart(2, '0')).join(':');

function describeDiscovery(source: DiscoverySpec): ConfigInput['pools'][string]['hosts'] {
  if (source.kind === 'file') return { file: source.path };
  const { kind, name, resolvers, refreshMs } = source;
  return {
    [kind]: name,
    refresh: formatDuration(refreshMs),
    resolvers: resolvers?.map(formatEndpoint),
  };
}

function describeHost({ name, address, port, overrides }: HostSpec, { local }: { local: boolean }) {
  const endpoint = local ? {} : { port };
  if (name === address && overrides === undefined)
    return local ? address : formatEndpoint({ host: address, port });
  const { ssh, haproxy, verify } = overrides ?? {};
  return {
    host: address,
    name,
    ...endpoint,
    ...(ssh && { user: ssh.user, identity: ssh.identity, sftp: ssh.sftp }),
    ...(haproxy && { haproxy: describeHaproxy(haproxy) }),
    ...(verify && { verify: describeVerify(verify) }),
  };
}

function describeHaproxy({ socket, masterSocket }: HaproxySpec) {
  return { socket, masterSocket };
}

function describeVerify({ connect, handshakes, timeoutMs, through }: VerifySpec) {
  return { connect: [...connect], handshakes, timeout: formatDuration(timeoutMs), through };
}

/** The halves of a dual certificate are one again, under the name that was given. */
function describeCertificates(certificates: KacmeConfig['certificates']): ConfigInput['certificates'] {
  const all = Object.values(certificates);
  return Object.fromEntries(
    all.map(({ name, dualOf, identifiers, issuers, key, ...options }) => {
      const types = all.filter((other) => other.dualOf === dualOf).map((other) => other.key);
      const described = { identifiers: [...identifiers], issuers: [...issuers], ...options };
      return [dualOf ?? name, { ...described, key: dualOf === undefined ? key : types }];
    }),
  );
}

function describeDeployments({ deployments, certificates }: KacmeConfig): ConfigInput['deployments'] {
  return deployments.flatMap((deployment, index) => {
    const described = describeDeployment(deployment);
    const dual = certificates[deployment.certificate]?.dualOf;
    if (dual === undefined) return [described];
    const other = deployments[index + 1];
    // The half that has the certificate's own name comes first: it tells of both.
    if (deployment.certificate !== dual || other === undefined) return [];
    const [ecdsa, rsa] = deployment.family === 'ecdsa' ? [deployment, other] : [other, deployment];
    const path = { ecdsa: ecdsa.path, rsa: rsa.path };
    const file = { ecdsa: ecdsa.file, rsa: rsa.file };
    const copies = { ecdsa: [...ecdsa.copies], rsa: [...rsa.copies] };
    return [{ ...described, certificate: dual, path, file, copies }];
  });
}

function describeDeployment(deployment: DeploymentSpec): ConfigInput['deployments'][number] {
  const { certificate, pool, path, file, copies, crtList, mode, owner, group, takeOver } = deployment;
  return {
    certificate,
    pool,
    path,
    file,
    copies: [...copies],
    ...(crtList && { crtList: crtList.path, crtListFile: crtList.file }),
    mode: `0${mode.toString(8)}`,
    owner,
    group,
    takeOver,
  };
}

/** The schema refuses a password in a URL; this is the second lock on that door. */
function withoutPassword(text: string): string {
  const url = new URL(text);
  if (url.username === '' && url.password === '') return text;
  url.username = 'redacted';
  url.password = '';
  return url.href;
}

function mapValues<In, Out>(
  record: Readonly<Record<string, In>>,
  map: (value: In) => Out,
): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}
