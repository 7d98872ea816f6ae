import { execFile } from 'node:child_process';
import { chmod, copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { startFleet, type TestFleet } from '../support/fleet.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPebble, type TestPebble } from '../support/pebble.ts';
import { canHaveViews } from '../support/process.ts';
import { scratchDirectory } from '../support/scratch.ts';
import type { Endpoint } from './handshakes.ts';
import { BARE_ENVIRONMENT, tied } from './service.ts';

const run = promisify(execFile);

export interface LabOptions {
  readonly hosts: number;
  readonly identifiers: readonly string[];
  /** The kacme that is measured. */
  readonly command: string;
}

/** A configuration with a store of its own. */
export interface Installation {
  readonly configPath: string;
  readonly operations: Endpoint;
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
  install(options: {
    deployed: boolean;
    storePath?: string;
    certificates?: number;
  }): Promise<Installation & { storePath: string }>;
  /** Brings each host a first, self-signed bundle and starts its HAProxy. */
  serve(installation: Installation): Promise<void>;
  /** Runs a command to its end; throws unless it ends with exit status 0. */
  kacme(installation: Installation, ...args: string[]): Promise<void>;
  close(): Promise<void>;
}

export async function startLab({ hosts, identifiers, command }: LabOptions): Promise<Lab> {
  const scratch = await scratchDirectory();
  const cleanup = [scratch.remove];
  const close = async () => {
    for (let step = cleanup.pop(); step !== undefined; step = cleanup.pop()) await step();
  };
  try {
    // An existing directory, at which each host sees its own files: so they make one pool, as in the field.
    const shared = await scratchDirectory();
    cleanup.push(shared.remove);
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
      haproxy: { httpPort, tlsPort, challengeBackend, started: false },
    }));
    cleanup.push(fleet.close);
    const [first] = fleet.hosts;
    if (first === undefined) throw new RangeError('a lab has at least one host');
    const pebble = await startPebble({ httpPort, defaultAddress: first.address, reuseAuthorizations: 0 });
    cleanup.push(pebble.close);

    const identity = join(scratch.path, 'id_ed25519');
    await copyFile(fleet.identityFile, identity);
    await chmod(identity, 0o600);
    let installations = 0;
    const install: Lab['install'] = async ({ deployed, storePath, certificates }) => {
      installations += 1;
      const directory = join(scratch.path, `store${installations}`);
      const configPath = join(scratch.path, `kacme${installations}.yaml`);
      const operations = await freeEndpoint();
      const config = {
        ...issuance(pebble, certificates === undefined ? { site: identifiers } : numbered(certificates)),
        ...distribution(fleet, { identity, seenAt, tlsPort, deployed }),
        challenge: {
          listen: challengeBackend,
          resolvers: [pebble.dns],
          selfCheck: { via: `http://${first.address}:${httpPort}` },
        },
        operations: { listen: `${operations.address}:${operations.port}` },
        store: { file: storePath ?? directory },
      };
      await writeFile(configPath, stringify(config));
      return { configPath, operations, storePath: storePath ?? directory };
    };
    const kacme: Lab['kacme'] = async ({ configPath }, ...args) => {
      const [program, all] = tied([command, '--config', configPath, ...args]);
      await run(program, all, { env: BARE_ENVIRONMENT });
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

interface Place {
  readonly identity: string;
  readonly seenAt: string;
  readonly tlsPort: number;
  readonly deployed: boolean;
}

function distribution(fleet: TestFleet, { identity, seenAt, tlsPort, deployed }: Place) {
  if (!deployed) return { pools: {}, deployments: [] };
  const { socketPath, certPath } = haproxyPaths(seenAt);
  const pool = {
    hosts: fleet.hosts.map(({ address, sshd }) => `${address}:${sshd.port}`),
    ssh: { user: fleet.user, identity: { file: identity }, knownHosts: fleet.knownHostsFile },
    haproxy: { socket: socketPath },
    verify: { connect: [`{host}:${tlsPort}`] },
  };
  return {
    pools: { loadbalancers: pool },
    // What an earlier store had issued is replaced too.
    deployments: [{ certificate: 'site', pool: 'loadbalancers', path: certPath, takeOver: true }],
  };
}

async function freeEndpoint(): Promise<Endpoint> {
  const address = loopbackAddress();
  return { address, port: await freePort(address) };
}
