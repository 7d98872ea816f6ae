import { spawn } from 'node:child_process';
import { chmod, copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Status } from '../../src/domain/status.ts';
import { connectControl } from '../../src/http/control-client.ts';
import { eventually } from './eventually.ts';
import type { TestFleet } from './fleet.ts';
import { haproxyPaths } from './haproxy.ts';
import { freePort, loopbackAddress } from './net.ts';
import type { TestPebble } from './pebble.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { scratchDirectory } from './scratch.ts';

export interface KacmeOptions {
  /** Hosts made with `seenAt: SEEN_AT` and one `tlsPort` for all. */
  readonly fleet: TestFleet;
  /** Where HAProxy forwards challenges to. */
  readonly challengeListen: string;
  readonly pebble: Pick<TestPebble, 'directoryUrl' | 'caFile' | 'dns'>;
  /** Identifiers by certificate name; the first certificate is deployed to the hosts' bundle path. */
  readonly certificates?: Readonly<Record<string, readonly string[]>>;
  /** Laid over the configuration: maps are merged one level deep by name, as an overlay file would. */
  readonly overlay?: Readonly<Record<string, unknown>>;
}

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A log line of kacme, parsed. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string; readonly level: string };

export interface TestService extends RunningProcess {
  readonly operations: string;
  log(): readonly LogLine[];
  /** Resolves with the first line of this message whose fields match; waits for it. */
  logged(msg: string, fields?: Readonly<Record<string, unknown>>, timeoutMs?: number): Promise<LogLine>;
}

/** The real command with a configuration and a store of its own. */
export interface TestKacme extends AsyncDisposable {
  readonly configPath: string;
  readonly storePath: string;
  run(...args: string[]): Promise<Finished>;
  /** Like `run`, without waiting for its end. */
  start(...args: string[]): StartedCommand;
  serve(): Promise<TestService>;
  status(): Promise<Status>;
  /** Waits until every certificate is valid and every place in sync; throws with the last status. */
  settled(timeoutMs?: number): Promise<Status>;
  /** Writes an overlay that every later command and SIGHUP reads; `{}` takes it away. */
  overlay(config: Readonly<Record<string, unknown>>): Promise<void>;
  close(): Promise<void>;
}

/** Where every host of the lab sees its files: the hosts of one pool have the same paths. */
export const SEEN_AT = '/srv';

/** The bundled command: that of the test run, else the one that `npm run build` made. */
const kacmeCommand = (): string =>
  process.env['KACME_COMMAND'] ?? join(import.meta.dirname, '..', '..', 'dist', 'kacme.js');

export async function setUpKacme(options: KacmeOptions): Promise<TestKacme> {
  const scratch = await scratchDirectory();
  const at = (name: string) => join(scratch.path, name);
  const operations = await freeEndpoint();
  const identity = at('id_ed25519');
  await copyFile(options.fleet.identityFile, identity);
  await chmod(identity, 0o600);
  await writeFile(
    at('kacme.yaml'),
    stringify(configuration(options, { store: at('store'), operations, identity })),
  );
  await writeFile(at('overlay.yaml'), stringify(options.overlay ?? {}));
  const configArgs = ['--config', at('kacme.yaml'), '--config', at('overlay.yaml')];
  const services: TestService[] = [];

  const run = (...args: string[]) => runKacme([...configArgs, ...args]);
  const status = async () => {
    const { status, stdout, stderr } = await run('status', '--json');
    if (stdout === '') throw new Error(`kacme status ended with ${status}: ${stderr}`);
    return JSON.parse(stdout) as Status;
  };
  const settled = async (timeoutMs = 30_000) => {
    let last: Status | undefined;
    const look = async () => {
      // A process for each look would take more of the machine than what is waited for.
      const signal = AbortSignal.timeout(5_000);
      const service = await connectControl(join(at('store'), 'kacme.sock'), { signal });
      last = await (service === undefined ? status() : service.status({ signal }));
      return isSettled(last) && last;
    };
    try {
      return await eventually('everything is in sync', look, { timeoutMs });
    } catch (error) {
      throw new Error(`not settled: ${JSON.stringify(last, undefined, 2)}`, { cause: error });
    }
  };
  const close = async () => {
    await Promise.all(services.map((service) => service.stop()));
    await scratch.remove();
  };
  return {
    configPath: at('kacme.yaml'),
    storePath: at('store'),
    run,
    start: (...args) => startKacme([...configArgs, ...args]),
    serve: async () => {
      const service = await startService([...configArgs, 'serve'], operations);
      services.push(service);
      return service;
    },
    status,
    settled,
    overlay: (config) => writeFile(at('overlay.yaml'), stringify(config)),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function isSettled({ certificates, hosts }: Status): boolean {
  return (
    certificates.every(({ state }) => state === 'valid') &&
    hosts.every(({ places }) => places.every(({ state }) => state === 'in sync'))
  );
}

export async function freeEndpoint(): Promise<string> {
  const address = loopbackAddress();
  return `${address}:${await freePort(address)}`;
}

function configuration(
  { fleet, pebble, challengeListen, certificates = { site: ['site.test'] } }: KacmeOptions,
  { store, operations, identity }: { store: string; operations: string; identity: string },
) {
  const [first] = fleet.hosts;
  if (first === undefined) throw new Error('a fleet has at least one host');
  const { socketPath, certPath } = haproxyPaths(SEEN_AT);
  return {
    issuers: {
      pebble: {
        directory: pebble.directoryUrl,
        caFile: pebble.caFile,
        contact: ['mailto:ops@example.org'],
        termsOfServiceAgreed: true,
      },
    },
    certificates: Object.fromEntries(
      Object.entries(certificates).map(([name, identifiers]) => [name, { identifiers, issuers: ['pebble'] }]),
    ),
    pools: {
      lb: {
        hosts: fleet.hosts.map(({ address, sshd }) => `${address}:${sshd.port}`),
        ssh: { user: fleet.user, identity: { file: identity }, knownHosts: fleet.knownHostsFile },
        haproxy: { socket: socketPath },
        verify: { connect: [`{host}:${first.haproxy.tlsPort}`] },
      },
    },
    deployments: [{ certificate: Object.keys(certificates)[0], pool: 'lb', path: certPath }],
    challenge: {
      listen: challengeListen,
      resolvers: [pebble.dns],
      selfCheck: { via: `http://${first.address}:${first.haproxy.httpPort}` },
    },
    operations: { listen: operations },
    reconcile: { every: '1s' },
    store: { file: store },
  };
}

/** A command under way. */
export interface StartedCommand {
  /** What it printed so far, both streams. */
  output(): string;
  signal(name: NodeJS.Signals): void;
  readonly finished: Promise<Finished>;
}

/** Runs the real command to its end. */
export const runKacme = (args: readonly string[]): Promise<Finished> => startKacme(args).finished;

/** Starts the real command. */
function startKacme(args: readonly string[]): StartedCommand {
  const child = spawn(process.execPath, [kacmeCommand(), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const finished = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  }).then((status) => ({ status, stdout, stderr }));
  return { output: () => stdout + stderr, signal: (name) => void child.kill(name), finished };
}

async function startService(args: readonly string[], operations: string): Promise<TestService> {
  const running = await startProcess({
    name: 'kacme serve',
    command: process.execPath,
    args: [kacmeCommand(), ...args],
    env: { PATH: process.env['PATH'] ?? '' },
    ready: (output) => output.includes('"msg":"kacme is up"'),
  });
  const log = () =>
    running
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as LogLine);
  const logged = async (msg: string, fields: Readonly<Record<string, unknown>> = {}, timeoutMs = 30_000) => {
    const matches = (line: LogLine) =>
      line.msg === msg && Object.entries(fields).every(([name, value]) => line[name] === value);
    try {
      return await eventually(`kacme logs "${msg}"`, () => log().find(matches), { timeoutMs });
    } catch (error) {
      throw new Error(
        `kacme did not log "${msg}" ${JSON.stringify(fields)}; it logged:\n${running.output()}`,
        { cause: error },
      );
    }
  };
  return { ...running, operations, log, logged };
}
