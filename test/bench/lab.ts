import { execFile } from 'node:child_process';
import { chmod, copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { Cleanup } from '../support/cleanup.ts';
import { startFleet, type TestFleet } from '../support/fleet.ts';
import { type HaproxyOptions, haproxyPaths } from '../support/haproxy.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPebble, type TestPebble } from '../support/pebble.ts';
import { canHaveViews } from '../support/process.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { assertWork } from './benchmark.ts';
import type { Endpoint } from './handshakes.ts';
import { BARE_ENVIRONMENT, tied } from './service.ts';

const run = promisify(execFile);

/** A summary of a thousand places. */
const MAX_OUTPUT_BYTES = 2 ** 26;

export interface LabOptions {
  readonly hosts: number;
  readonly identifiers: readonly string[];
  /** The kacme that is measured. */
  readonly command: string;
  /** More of each HAProxy's options. */
  readonly haproxy?: Pick<HaproxyOptions, 'certificates' | 'wholeDirectory' | 'startWithinMs'>;
  /** What kacme reaches in place of each sshd, on an address of the same host. */
  readonly front?: (sshds: readonly Endpoint[]) => Promise<SshFront>;
}

/** Stands before every sshd. */
export interface SshFront {
  readonly endpoints: readonly Endpoint[];
  close(): Promise<void>;
}

export interface InstallOptions {
  readonly deployed: boolean;
  readonly storePath?: string;
  readonly certificates?: number;
  /** More hosts of the pool, listed before the others: none of them works. */
  readonly broken?: readonly Endpoint[];
  /** More settings at the top of its configuration. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** A configuration with a store of its own. */
export interface Installation {
  readonly configPath: string;
  readonly operations: Endpoint;
  /** What a command that changes every host ends with: 3 where some of them are broken. */
  readonly exitStatus: 0 | 3;
}

/** A CA that answers as fast as it can, and hosts that are configured alike, all of them real. */
export interface Lab {
  readonly fleet: TestFleet;
  readonly identifiers: readonly string[];
  /** Where each host serves TLS. */
  readonly endpoints: readonly Endpoint[];
  readonly challenge: Endpoint;
  /**
   * A configuration for these hosts, or for none of them (the certificate is then only held), with so many certificates
   * of one name each in place of the one.
   */
  install(options: InstallOptions): Promise<Installation & { storePath: string }>;
  /** Brings each host a first, self-signed bundle and starts its HAProxy. */
  serve(installation: Installation): Promise<void>;
  /** Runs a command to its end; throws unless it ends with the exit status of the installation. */
  kacme(installation: Installation, ...args: string[]): Promise<void>;
  close(): Promise<void>;
}

export async function startLab({ hosts, identifiers, command, haproxy, front }: LabOptions): Promise<Lab> {
  const scratch = await scratchDirectory();
  const cleanup = new Cleanup();
  cleanup.add(scratch.remove);
  const { close } = cleanup;
  try {
    // An existing directory, at which each host sees its own files: so they make one pool, as in the field.
    const shared = await scratchDirectory();
    cleanup.add(shared.remove);
    const seenAt = shared.path;
    if (!canHaveViews({ directory: scratch.path, at: seenAt })) {
      throw new Error(
        'the bench needs root and mount namespaces (CAP_SYS_ADMIN) to give each host its own files',
      );
    }
    const challenge = await freeEndpoint();
    const [httpPort, tlsPort] = [await freePort(loopbackAddress()), await freePort(loopbackAddress())];
    const challengeBackend = `${challenge.address}:${challenge.port}`;
    const fleet = await startFleet(hosts, () => ({
      seenAt,
      haproxy: { ...haproxy, httpPort, tlsPort, challengeBackend, started: false },
    }));
    cleanup.add(fleet.close);
    const [first] = fleet.hosts;
    if (first === undefined) throw new RangeError('a lab has at least one host');
    const pebble = await startPebble({ httpPort, defaultAddress: first.address, reuseAuthorizations: 0 });
    cleanup.add(pebble.close);
    const sshds = fleet.hosts.map(({ sshd: { address, port } }) => ({ address, port }));
    const standing = await front?.(sshds);
    if (standing !== undefined) cleanup.add(standing.close);
    const reached = standing?.endpoints ?? sshds;

    const identity = join(scratch.path, 'id_ed25519');
    await copyFile(fleet.identityFile, identity);
    await chmod(identity, 0o600);
    let installations = 0;
    const install: Lab['install'] = async (options) => {
      const { deployed, storePath, certificates, broken = [], settings } = options;
      installations += 1;
      const directory = join(scratch.path, `store${installations}`);
      const configPath = join(scratch.path, `kacme${installations}.yaml`);
      const operations = await freeEndpoint();
      const listed = [...broken, ...reached];
      const knownHosts = join(scratch.path, `known_hosts${installations}`);
      await writeFile(knownHosts, pins(fleet, reached, broken));
      const names = certificates === undefined ? { site: identifiers } : numbered(certificates);
      const place = { user: fleet.user, listed, knownHosts, identity, seenAt, tlsPort };
      const config = {
        ...issuance(pebble, names),
        ...(deployed ? distribution(place, Object.keys(names)) : { pools: {}, deployments: [] }),
        challenge: {
          listen: challengeBackend,
          resolvers: [pebble.dns],
          selfCheck: { via: `http://${first.address}:${httpPort}` },
        },
        operations: { listen: `${operations.address}:${operations.port}` },
        store: { file: storePath ?? directory },
        ...settings,
      };
      await writeFile(configPath, stringify(config));
      const exitStatus = broken.length === 0 ? 0 : 3;
      return { configPath, operations, exitStatus, storePath: storePath ?? directory };
    };
    const kacme: Lab['kacme'] = async ({ configPath, exitStatus }, ...args) => {
      const [program, all] = tied([command, '--config', configPath, ...args]);
      const ran = run(program, all, { env: BARE_ENVIRONMENT, maxBuffer: MAX_OUTPUT_BYTES });
      if (exitStatus === 0) return void (await ran);
      const code: unknown = await ran.then(
        () => 0,
        (error) => error.code,
      );
      assertWork(code === exitStatus, `kacme ${args.join(' ')} ended with ${code}, not ${exitStatus}`);
    };
    return {
      fleet,
      identifiers,
      endpoints: fleet.hosts.map(({ address }) => ({ address, port: tlsPort })),
      challenge,
      install,
      serve: async (installation) => {
        await kacme(installation, 'bootstrap');
        await startHaproxies(fleet);
      },
      kacme,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Fifty at once would each start too slowly on a small machine. */
const STARTED_AT_ONCE = 5;

async function startHaproxies({ hosts }: TestFleet): Promise<void> {
  const waiting = hosts.values();
  const startNext = async () => {
    for (const { haproxy } of waiting) await haproxy.start();
  };
  await Promise.all(Array.from({ length: STARTED_AT_ONCE }, startNext));
}

type NamesByCertificate = Readonly<Record<string, readonly string[]>>;

const numbered = (count: number): NamesByCertificate =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`c${i + 1}`, [`c${i + 1}.test`]]));

function issuance({ directoryUrl, caFile }: TestPebble, certificates: NamesByCertificate) {
  return {
    issuers: {
      pebble: {
        directory: directoryUrl,
        caFile,
        contact: ['mailto:ops@example.org'],
        termsOfServiceAgreed: true,
      },
    },
    certificates: Object.fromEntries(
      Object.entries(certificates).map(([name, identifiers]) => [
        name,
        { identifiers, issuers: ['pebble'], key: 'ecdsa-p256' },
      ]),
    ),
  };
}

/** The host keys, each at the endpoint where kacme meets it; a broken host never comes to show one. */
function pins({ hosts }: TestFleet, reached: readonly Endpoint[], broken: readonly Endpoint[]): string {
  const keys = hosts.map(({ sshd }) => sshd.knownHosts.slice(sshd.knownHosts.indexOf(' ')));
  return [...reached, ...broken]
    .map(({ address, port }, i) => `[${address}]:${port}${keys[i] ?? keys[0]}`)
    .join('');
}

interface Place {
  readonly user: string;
  readonly listed: readonly Endpoint[];
  readonly knownHosts: string;
  readonly identity: string;
  readonly seenAt: string;
  readonly tlsPort: number;
}

function distribution(place: Place, certificates: readonly string[]) {
  const { user, listed, knownHosts, identity, seenAt, tlsPort } = place;
  const { socketPath, certPath, certDirectory } = haproxyPaths(seenAt);
  const pool = {
    hosts: listed.map(({ address, port }) => `${address}:${port}`),
    ssh: { user, identity: { file: identity }, knownHosts },
    haproxy: { socket: socketPath },
    verify: { connect: [`{host}:${tlsPort}`] },
  };
  return {
    pools: { loadbalancers: pool },
    // What an earlier store had issued is replaced too.
    deployments: certificates.map((certificate) => ({
      certificate,
      pool: 'loadbalancers',
      path: certificates.length === 1 ? certPath : join(certDirectory, `${certificate}.pem`),
      takeOver: true,
    })),
  };
}

async function freeEndpoint(): Promise<Endpoint> {
  const address = loopbackAddress();
  return { address, port: await freePort(address) };
}
