import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from './eventually.ts';
import { haproxyCommand, servedFingerprint256 } from './haproxy-cli.ts';
import { freePort, loopbackAddress } from './net.ts';
import { giveTo } from './ownership.ts';
import { descendants, isAlive, type RunningProcess, signalAll, startProcess } from './process.ts';
import { labAccount, programs } from './programs.ts';
import { scratchDirectory } from './scratch.ts';

/** Whose package it is: 2.6 is Debian 12's, 3.0 Debian 13's. */
export const HAPROXY_SERIES = ['this Debian', 'Debian 13'] as const;
export type HaproxySeries = (typeof HAPROXY_SERIES)[number];

export interface HaproxyOptions {
  /** This machine's own Debian unless given. */
  readonly series?: HaproxySeries | undefined;
  /** Its bundle (leaf, chain, key); undefined leaves the path empty, and HAProxy could not start. */
  readonly bundlePem?: string | undefined;
  /** False: everything is prepared, `start` starts it. */
  readonly started?: boolean;
  /** How long a start may take; 10 s. */
  readonly startWithinMs?: number;
  readonly address?: string;
  readonly tlsPort?: number;
  /** Pebble asks every host at the same port: give all of them the one it was started with. */
  readonly httpPort?: number;
  /** Where `/.well-known/acme-challenge/` goes: `address:port` of kacme's challenge server. */
  readonly challengeBackend?: string | undefined;
  /** Everything else on the http port is redirected to https, as in Kolla. */
  readonly redirect?: boolean;
  /** tune.bufsize; 16384 is HAProxy's own. */
  readonly bufferBytes?: number | undefined;
  readonly masterSocket?: boolean;
  /** More lines for the `global` section. */
  readonly globalLines?: readonly string[];
  /** More bundles that it loads, by their names in the certificates directory. */
  readonly moreBundles?: readonly string[];
  /** Loads every PEM file of the certificates directory, not only its own bundle. */
  readonly wholeDirectory?: boolean;
  /** More arguments of `bind ... ssl crt PATH`. */
  readonly bindArguments?: string;
  /** More PEM files by name, written to the certificates directory, e.g. for `bindArguments`. */
  readonly certificates?: Readonly<Record<string, string>>;
  /** More variables, such as OPENSSL_CONF. */
  readonly env?: Readonly<Record<string, string>>;
  /** An existing directory of the account; one of its own otherwise. */
  readonly directory?: string;
  /** Where HAProxy sees that directory; its configuration names every path there. */
  readonly seenAt?: string | undefined;
}

export interface TestHaproxy extends AsyncDisposable {
  readonly address: string;
  readonly tlsPort: number;
  readonly httpPort: number;
  /** Stats socket, level admin, mode 0600. */
  readonly socketPath: string;
  readonly masterSocketPath: string;
  readonly configPath: string;
  /** The path of its `crt` argument (with `seenAt`, HAProxy sees it there instead: `haproxyPaths`). */
  readonly certPath: string;
  readonly certDirectory: string;
  readonly running: boolean;
  /** Master and workers; empty when stopped. */
  pids(): readonly number[];
  output(): string;
  start(): Promise<void>;
  /** Ends master and workers at once; `start` brings it back on the same address and ports. */
  stop(): Promise<void>;
  /** SIGKILL to all of them. */
  kill(): Promise<void>;
  /** SIGUSR2 to the master; resolves when a new worker serves. Throws when it keeps the old one. */
  reload(): Promise<void>;
  /** SHA-256 of the leaf it serves, lower-case hex, from a fresh handshake. */
  servedFingerprint256(servername: string): Promise<string>;
  /** An answer of its stats socket. */
  command(text: string): Promise<string>;
  /** As `show info` says, such as `2.6.12-1+deb12u4`. */
  version(): Promise<string>;
  /** Stops it and removes its directory. */
  close(): Promise<void>;
}

/** Where the files of a HAProxy lie below its directory. */
export function haproxyPaths(directory: string) {
  const certDirectory = join(directory, 'certs');
  return {
    socketPath: join(directory, 'haproxy.sock'),
    masterSocketPath: join(directory, 'master.sock'),
    configPath: join(directory, 'haproxy.cfg'),
    certDirectory,
    certPath: join(certDirectory, 'haproxy.pem'),
  };
}

/** A real HAProxy in master-worker mode under the lab's account. */
export async function startHaproxy(options: HaproxyOptions = {}): Promise<TestHaproxy> {
  const account = labAccount();
  const scratch = options.directory === undefined ? await scratchDirectory(account) : undefined;
  const directory = options.directory ?? scratch?.path ?? '';
  const address = options.address ?? loopbackAddress();
  const place = {
    address,
    tlsPort: options.tlsPort ?? (await freePort(address)),
    httpPort: options.httpPort ?? (await freePort(address)),
    ...haproxyPaths(directory),
  };
  const seen = { ...place, ...haproxyPaths(options.seenAt ?? directory) };
  await mkdir(place.certDirectory, { mode: 0o700 });
  const pems = { ...options.certificates, 'haproxy.pem': options.bundlePem };
  for (const [name, pem] of Object.entries(pems)) {
    if (pem !== undefined) await writeFile(join(place.certDirectory, name), pem, { mode: 0o600 });
  }
  await writeFile(place.configPath, renderConfig(seen, options), { mode: 0o600 });
  await giveTo(account, directory);

  let master: RunningProcess | undefined;
  const pids = () => (master === undefined ? [] : [master.pid, ...descendants(master.pid)]);
  const end = async (name: NodeJS.Signals) => {
    const all = pids();
    if (name === 'SIGKILL') signalAll(all, name);
    await master?.stop();
    master = undefined;
    await eventually('the workers of HAProxy are gone', () => !all.some(isAlive));
  };
  const start = async () => {
    if (master !== undefined) return;
    const { haproxy, newerHaproxy, env } = programs();
    const sockets = options.masterSocket === false ? [] : ['-S', `${seen.masterSocketPath},mode,600`];
    master = await startProcess({
      name: 'haproxy',
      command: options.series === 'Debian 13' ? newerHaproxy : haproxy,
      args: ['-W', '-db', ...sockets, '-f', seen.configPath],
      env: { ...env, ...options.env },
      cwd: directory,
      account,
      view: options.seenAt === undefined ? undefined : { directory, at: options.seenAt },
      ready: async (output) => (await servingWorker(output)) !== undefined,
      readyWithinMs: options.startWithinMs,
    });
  };
  const command = (text: string) => haproxyCommand(place.socketPath, text);
  /**
   * The pid of the worker that answers, once the master knows it too: before that a signal to the master is
   * lost (2.6), although its worker serves.
   */
  const servingWorker = async (said: string): Promise<string | undefined> => {
    try {
      const pid = infoField(await command('show info'), 'Pid');
      const known =
        options.masterSocket === false
          ? said.includes('Loading success')
          : (await haproxyCommand(place.masterSocketPath, 'show proc')).includes(pid);
      return known ? pid : undefined;
    } catch {
      return undefined; // A socket is not there yet, or is being handed over.
    }
  };
  const close = async () => {
    await end('SIGTERM');
    await scratch?.remove();
  };
  const haproxy: TestHaproxy = {
    ...place,
    get running() {
      return master !== undefined;
    },
    pids,
    output: () => master?.output() ?? '',
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    reload: () => reload(master, servingWorker),
    servedFingerprint256: (servername) => servedFingerprint256(address, place.tlsPort, servername),
    command,
    version: async () => infoField(await command('show info'), 'Version'),
    close,
    [Symbol.asyncDispose]: close,
  };
  if (options.started === false) return haproxy;
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return haproxy;
}

async function reload(
  master: RunningProcess | undefined,
  servingWorker: (said: string) => Promise<string | undefined>,
): Promise<void> {
  if (master === undefined) throw new Error('HAProxy is stopped: there is nothing to reload');
  const before = await eventually('HAProxy answers', () => servingWorker(master.output()));
  const said = master.output().length;
  const saidSince = () => master.output().slice(said);
  master.signal('SIGUSR2');
  const outcome = await eventually('a new HAProxy worker answers', async () => {
    if (saidSince().includes('[ALERT]')) return 'refused';
    const worker = await servingWorker(saidSince());
    return worker !== undefined && worker !== before && 'reloaded';
  });
  if (outcome === 'refused') throw new Error(`HAProxy refused the reload: ${saidSince()}`);
}

function infoField(info: string, field: string): string {
  return new RegExp(`^${field}: (.*)$`, 'm').exec(info)?.[1] ?? '';
}

interface Place {
  readonly address: string;
  readonly tlsPort: number;
  readonly httpPort: number;
  readonly socketPath: string;
  readonly certDirectory: string;
  readonly certPath: string;
}

function renderConfig(place: Place, options: HaproxyOptions): string {
  const { address, tlsPort, httpPort } = place;
  const challenge = '{ path_beg /.well-known/acme-challenge/ }';
  const more = (options.moreBundles ?? []).map((name) => `crt ${join(place.certDirectory, name)}`);
  const routed = options.challengeBackend !== undefined;
  const sections = [
    [
      'global',
      `stats socket ${place.socketPath} mode 600 level admin`,
      'maxconn 2000',
      // Every handshake of a test must show the certificate, none may be resumed.
      'tune.ssl.cachesize 0',
      'ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets',
      ...(options.bufferBytes === undefined ? [] : [`tune.bufsize ${options.bufferBytes}`]),
      ...(options.globalLines ?? []),
    ],
    ['defaults', 'mode http', 'timeout connect 5s', 'timeout client 30s', 'timeout server 30s'],
    [
      'frontend tls',
      [
        'bind',
        `${address}:${tlsPort}`,
        'ssl',
        `crt ${options.wholeDirectory === true ? place.certDirectory : place.certPath}`,
        ...more,
        options.bindArguments ?? '',
      ].join(' '),
      'http-request return status 200 content-type text/plain string "served by HAProxy\\n"',
    ],
    [
      'frontend http',
      `bind ${address}:${httpPort}`,
      ...(routed ? [`use_backend acme if ${challenge}`] : []),
      options.redirect === true
        ? `http-request redirect scheme https code 301 ${routed ? `unless ${challenge}` : ''}`
        : `http-request return status 404 content-type text/plain string "nothing here\\n" ${routed ? `unless ${challenge}` : ''}`,
    ],
    ...(routed ? [['backend acme', `server kacme ${options.challengeBackend}`]] : []),
  ];
  return sections
    .map(([head, ...lines]) => [head, ...lines.map((line) => `  ${line.trimEnd()}`), ''].join('\n'))
    .join('\n');
}
