import { formatEndpoint, parseEndpoint, parseIdentifier } from './address.ts';
import { dualRules, valuesPerFamily } from './dual-rules.ts';
import { socketProblem } from './fields.ts';
import { type ConfigPath, formatPath } from './issue.ts';
import { letsEncryptRules, type OrderedAt } from './lets-encrypt-rules.ts';
import { isMap, listOf, mapOf, type Plain } from './plain.ts';
import { defaultControlSocket } from './resolve.ts';
import { didYouMean } from './suggestion.ts';
import type { Mistake } from './tree.ts';

/**
 * What no value shows alone: references, duplicates, keys that need or exclude each other. Works on values the
 * schema may have refused, so that every mistake is reported at once: what has the wrong shape is passed over.
 */
export function checkRules(config: unknown): readonly Mistake[] {
  const root = mapOf(config);
  return [
    ...Object.entries(mapOf(root.certificates)).flatMap(([name, value]) =>
      certificateRules(['certificates', name], mapOf(value), mapOf(root.issuers)),
    ),
    ...Object.entries(mapOf(root.issuers)).flatMap(([name, value]) =>
      issuerRules(name, mapOf(value), mapOf(root.issuers)),
    ),
    ...Object.entries(mapOf(root.pools)).flatMap(([name, value]) => poolRules(['pools', name], mapOf(value))),
    ...oneProcessOnePool(mapOf(root.pools)),
    ...dualRules(root),
    ...deploymentRules(root),
    ...crtListRules(root),
    ...listenRules(root),
    ...selfCheckRules(root),
    ...controlRules(root),
  ];
}

function certificateRules(path: ConfigPath, certificate: Plain, issuers: Plain): Mistake[] {
  const names = listOf(certificate.issuers);
  return [
    ...duplicates([...path, 'identifiers'], listOf(certificate.identifiers), normalIdentifier),
    ...duplicates([...path, 'issuers'], names, (name) => name),
    ...names.flatMap((name, index) => unknown([...path, 'issuers', index], name, issuers, 'issuer')),
    ...names.flatMap((name) => letsEncryptRules(path, orderedAt(name, certificate, issuers))),
  ];
}

function orderedAt(name: unknown, certificate: Plain, issuers: Plain): OrderedAt {
  const issuer = String(name);
  const { directory, profile } = mapOf(Object.hasOwn(issuers, issuer) ? issuers[issuer] : undefined);
  const identifiers = listOf(certificate.identifiers).map((text) => {
    const identifier = parseIdentifier(String(text));
    return 'value' in identifier ? identifier.value : undefined;
  });
  return { issuer, directory, issuerProfile: profile, certificateProfile: certificate.profile, identifiers };
}

/** A rehearsal leads to another CA and no further: a chain would only put off the real order. */
function issuerRules(name: string, issuer: Plain, issuers: Plain): Mistake[] {
  const { stagingFirst, directory } = issuer;
  if (stagingFirst === undefined) return [];
  const path = ['issuers', name, 'stagingFirst'];
  const missing = unknown(path, stagingFirst, issuers, 'issuer');
  if (missing.length > 0) return missing;
  const staging = mapOf(issuers[String(stagingFirst)]);
  if (stagingFirst === name) return [{ path, message: 'expected another issuer than this one' }];
  if (staging.stagingFirst !== undefined)
    return [{ path, message: `issuer "${stagingFirst}" has a stagingFirst itself: name one that has none` }];
  if (typeof directory === 'string' && staging.directory === directory)
    return [{ path, message: `issuer "${stagingFirst}" has the same directory: a rehearsal there is none` }];
  return [];
}

function poolRules(path: ConfigPath, pool: Plain): Mistake[] {
  const hosts = listOf(pool.hosts);
  const mistakes = duplicates(
    [...path, 'hosts'],
    hosts.map((host) => hostOf(host)?.name),
    (name) => name,
  );
  mistakes.push(...reloadRules(path, pool), ...throughRules(path, pool));
  if (isMap(pool.hosts)) mistakes.push(...discoveryRules([...path, 'hosts'], pool.hosts));
  if (pool.local === true) {
    const reason = 'a local pool is this machine alone';
    if (isMap(pool.hosts)) mistakes.push({ path: [...path, 'hosts'], message: `remove it: ${reason}` });
    const login = ['port', 'user', 'identity', 'sftp'].filter((key) => Object.hasOwn(mapOf(hosts[0]), key));
    for (const key of login)
      mistakes.push({ path: [...path, 'hosts', 0, key], message: `remove it: ${reason}` });
    if (pool.ssh !== undefined) mistakes.push({ path: [...path, 'ssh'], message: `remove it: ${reason}` });
    if (hosts.length > 1) {
      mistakes.push({ path: [...path, 'hosts', 1], message: `expected at most one host: ${reason}` });
    }
    return mistakes;
  }
  const unless = 'is required unless the pool has local: true';
  if (pool.hosts === undefined) mistakes.push({ path: [...path, 'hosts'], message: unless });
  if (pool.ssh === undefined) mistakes.push({ path: [...path, 'ssh'], message: unless });
  return mistakes;
}

/** Handshakes can only start where an SSH connection leads to. */
function throughRules(path: ConfigPath, pool: Plain): Mistake[] {
  const { jump } = mapOf(pool.ssh);
  const places: (readonly [ConfigPath, unknown])[] = [
    [path, pool.verify],
    ...listOf(pool.hosts).map((host, i) => [[...path, 'hosts', i], mapOf(host).verify] as const),
  ];
  return places.flatMap(([at, verify]): Mistake[] => {
    const { through } = mapOf(verify);
    const where = [...at, 'verify', 'through'];
    if (pool.local === true && (through === 'host' || through === 'jump'))
      return [{ path: where, message: 'remove it: a local pool is this machine alone' }];
    if (through === 'jump' && (jump === undefined || (listOf(jump).length === 0 && Array.isArray(jump))))
      return [{ path: where, message: 'needs ssh.jump: there is no jump host to start from' }];
    return [];
  });
}

function discoveryRules(path: ConfigPath, source: Plain): Mistake[] {
  const kinds = ['dns', 'srv', 'file'].filter((kind) => Object.hasOwn(source, kind));
  if (kinds.length !== 1) {
    const message =
      kinds.length === 0
        ? 'expected dns, srv or file: where the hosts are learned from'
        : `expected one of ${kinds.join(', ')}: a pool has one source`;
    return [{ path, message }];
  }
  if (kinds[0] !== 'file') return [];
  return ['refresh', 'resolvers']
    .filter((key) => Object.hasOwn(source, key))
    .map((key) => ({ path: [...path, key], message: 'remove it: a file is watched, DNS is not asked' }));
}

function reloadRules(path: ConfigPath, { reload, haproxy }: Plain): Mistake[] {
  const byMaster = reload === 'masterSocket' || (isMap(reload) && reload.command === undefined);
  if (!byMaster || mapOf(haproxy).masterSocket !== undefined) return [];
  const message = 'needs haproxy.masterSocket, or a command: { command: [docker, kill, -s, USR2, haproxy] }';
  return [{ path: [...path, 'reload'], message }];
}

/** HAProxy has one certificate transaction for the whole process: two pools would change it side by side. */
function oneProcessOnePool(pools: Plain): Mistake[] {
  const seen = new Map<string, string>();
  const mistakes: Mistake[] = [];
  for (const [pool, value] of Object.entries(pools)) {
    for (const { path, processes } of processesOf(pool, mapOf(value))) {
      const other = processes.map((process) => seen.get(process)).find((name) => name !== undefined);
      if (other !== undefined && other !== pool) {
        const message = `its HAProxy is in pool "${other}" already: one process belongs to one pool, which can have several deployments`;
        mistakes.push({ path, message });
      }
      for (const process of processes) seen.set(process, seen.get(process) ?? pool);
    }
  }
  return mistakes;
}

function processesOf(name: string, pool: Plain): { path: ConfigPath; processes: string[] }[] {
  const on = (place: string, host: unknown) => {
    const { socket, masterSocket } = { ...mapOf(pool.haproxy), ...mapOf(mapOf(host).haproxy) };
    const sockets = [socket, masterSocket].filter((path) => typeof path === 'string');
    return sockets.map((path) => `${place} ${path}`);
  };
  const hosts = listOf(pool.hosts);
  if (pool.local === true) return [{ path: ['pools', name], processes: on('local', hosts[0]) }];
  const sshPort = mapOf(pool.ssh).port;
  return hosts.flatMap((value, index) => {
    const host = hostOf(value);
    if (host === undefined) return [];
    const port = host.port ?? (typeof sshPort === 'number' ? sshPort : 22);
    // The same private address behind another jump host is another machine.
    const place = `${JSON.stringify(mapOf(pool.ssh).jump)} ${formatEndpoint({ host: host.address, port })}`;
    const processes = on(place, value);
    return [{ path: ['pools', name, 'hosts', index], processes }];
  });
}

function deploymentRules(root: Plain): Mistake[] {
  const owners = new Map<string, ConfigPath>();
  return listOf(root.deployments).flatMap((value, index) => {
    const deployment = mapOf(value);
    const path = ['deployments', index];
    const mistakes = [
      ...unknown([...path, 'certificate'], deployment.certificate, mapOf(root.certificates), 'certificate'),
      ...unknown([...path, 'pool'], deployment.pool, mapOf(root.pools), 'pool'),
    ];
    for (const { at, places } of placesOf(deployment, path)) {
      const claims = places.map((place) => `${String(deployment.pool)} ${place}`);
      const owner = claims.map((claim) => owners.get(claim)).find((owner) => owner !== undefined);
      if (owner) mistakes.push({ path: at, message: `${formatPath(owner)} is the same place in this pool` });
      for (const claim of claims) owners.set(claim, owners.get(claim) ?? at);
    }
    return mistakes;
  });
}

/** A list that is replaced must not be what it lists. */
function crtListRules(root: Plain): Mistake[] {
  const deployments = listOf(root.deployments).map(mapOf);
  const placesIn = new Map<unknown, Set<string>>();
  for (const deployment of deployments) {
    const places = placesIn.get(deployment.pool) ?? new Set();
    placesIn.set(deployment.pool, places);
    for (const { places: own } of placesOf(deployment, [])) for (const place of own) places.add(place);
  }
  return deployments.flatMap(({ pool, crtList, crtListFile }, index) => {
    const path = ['deployments', index];
    if (crtList === undefined && crtListFile !== undefined)
      return [{ path: [...path, 'crtListFile'], message: 'needs crtList, the name HAProxy knows it by' }];
    const file = crtListFile ?? crtList;
    if (placesIn.get(pool)?.has(`file ${String(file)}`) !== true) return [];
    const key = crtListFile === undefined ? 'crtList' : 'crtListFile';
    return [
      { path: [...path, key], message: 'is the path of a bundle: a list of certificates is another file' },
    ];
  });
}

/** A path as HAProxy sees it and a file as SSH sees it are different things that may be spelled alike. */
function placesOf(deployment: Plain, path: ConfigPath): { at: ConfigPath; places: string[] }[] {
  const claim = (at: ConfigPath, value: unknown, kinds: readonly string[]) =>
    typeof value === 'string' ? [{ at, places: kinds.map((kind) => `${kind} ${value}`) }] : [];
  return [
    ...valuesPerFamily(deployment.path, [...path, 'path']).flatMap(({ at, value }) =>
      claim(at, value, deployment.file === undefined ? ['path', 'file'] : ['path']),
    ),
    ...valuesPerFamily(deployment.file, [...path, 'file']).flatMap(({ at, value }) =>
      claim(at, value, ['file']),
    ),
    ...valuesPerFamily(deployment.copies, [...path, 'copies']).flatMap(({ at, value }) =>
      listOf(value).flatMap((copy, index) => claim([...at, index], copy, ['file'])),
    ),
  ];
}

function listenRules(root: Plain): Mistake[] {
  const challenge = mapOf(root.challenge).listen;
  const operations = mapOf(root.operations).listen;
  if (typeof challenge !== 'string' || challenge !== operations) return [];
  const message =
    'challenge.listen has the same address: HAProxy would route strangers to the operations server';
  return [{ path: ['operations', 'listen'], message }];
}

/** Where each name leads to has to be known for a direct self-check. */
function selfCheckRules(root: Plain): Mistake[] {
  const { resolvers, selfCheck } = mapOf(root.challenge);
  const isDirect = selfCheck !== 'off' && selfCheck !== false && mapOf(selfCheck).via === undefined;
  if ((resolvers !== 'off' && resolvers !== false) || !isDirect) return [];
  const message =
    'a direct self-check needs to know where names lead to: give resolvers, or set selfCheck to off or { via: URL }';
  return [{ path: ['challenge', 'resolvers'], message }];
}

function controlRules(root: Plain): Mistake[] {
  const { file } = mapOf(root.store);
  if (mapOf(root.control).socket !== undefined || typeof file !== 'string') return [];
  const problem = socketProblem(defaultControlSocket(file));
  return problem === undefined
    ? []
    : [
        {
          path: ['store', 'file'],
          message: `too long for the control socket in it: ${problem}; set control.socket`,
        },
      ];
}

function unknown(path: ConfigPath, name: unknown, known: Plain, noun: string): Mistake[] {
  if (typeof name !== 'string' || Object.hasOwn(known, name)) return [];
  const names = Object.keys(known);
  const hint =
    didYouMean(name, names) || (names.length > 0 ? `; there are ${names.join(', ')}` : '; there are none');
  return [{ path, message: `no ${noun} has the name "${name}"${hint}` }];
}

function duplicates(
  path: ConfigPath,
  values: readonly unknown[],
  normal: (text: string) => string,
): Mistake[] {
  const seen = new Map<string, number>();
  return values.flatMap((value, index) => {
    if (typeof value !== 'string') return [];
    const key = normal(value);
    const first = seen.get(key);
    if (first === undefined) seen.set(key, index);
    return first === undefined ? [] : [{ path: [...path, index], message: `the same as entry ${first}` }];
  });
}

function normalIdentifier(text: string): string {
  const identifier = parseIdentifier(text);
  return 'value' in identifier ? identifier.value : text;
}

/** An entry of `hosts`, which is an address or a map; undefined when it is neither. */
function hostOf(entry: unknown) {
  const { host, name, port } = mapOf(entry);
  const text = typeof entry === 'string' ? entry : host;
  const endpoint = typeof text === 'string' ? parseEndpoint(text) : undefined;
  if (endpoint === undefined || 'problem' in endpoint) return undefined;
  const address = endpoint.value.host;
  return {
    name: typeof name === 'string' ? name : address,
    address,
    port: endpoint.value.port ?? (typeof port === 'number' ? port : undefined),
  };
}
