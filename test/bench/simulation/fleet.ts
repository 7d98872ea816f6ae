import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../../support/net.ts';
import { selfSigned } from '../../support/pem.ts';
import { scratchDirectory } from '../../support/scratch.ts';
import { createIdentity } from '../../support/sshd.ts';
import type { Endpoint } from '../handshakes.ts';
import { BARE_ENVIRONMENT, processorMsOf, tied } from '../service.ts';
import type { Counts, SimulatedHostOptions } from './host.ts';
import type { Order, Report } from './simulator.ts';

export const BUNDLE_PATH = '/etc/haproxy/certificates/site.pem';
export const SOCKET_PATH = '/run/haproxy/admin.sock';

const HOSTS_OF_A_PROCESS = 250;

export interface SimulatedFleet {
  readonly addresses: readonly string[];
  readonly sshPort: number;
  readonly tlsPort: number;
  readonly identityFile: string;
  readonly knownHostsFile: string;
  readonly endpoints: readonly Endpoint[];
  /** Of all hosts together, since they were started. */
  counts(): Promise<Counts>;
  /** User and system time of all simulators so far. */
  processorMs(): Promise<number>;
  close(): Promise<void>;
}

/** `count` hosts in a few processes, each on an address of its own; all present one self-signed certificate at first. */
export async function startSimulatedFleet(count: number, simulator: string): Promise<SimulatedFleet> {
  const scratch = await scratchDirectory();
  const children: ChildProcess[] = [];
  const close = async () => {
    await Promise.all(children.map(stop));
    await scratch.remove();
  };
  try {
    const network = randomInt(1, 255);
    const addresses = Array.from({ length: count }, (_, i) => {
      return `127.${network}.${Math.floor(i / 250)}.${(i % 250) + 1}`;
    });
    const [first = ''] = addresses;
    const [sshPort, tlsPort] = [await freePort(first), await freePort(first)];
    const identity = await createIdentity(join(scratch.path, 'identity'));
    const host = await createIdentity(join(scratch.path, 'host'));
    const knownHostsFile = join(scratch.path, 'known_hosts');
    const pins = addresses.map((address) => `[${address}]:${sshPort} ${host.publicKey}\n`);
    await writeFile(knownHostsFile, pins.join(''));
    const hostKey = await readFile(host.identityFile, 'utf8');
    const pem = selfSigned('before.test').bundlePem;
    const options = addresses.map(
      (address): SimulatedHostOptions => ({ address, sshPort, tlsPort, hostKey, path: BUNDLE_PATH, pem }),
    );
    for (let at = 0; at < count; at += HOSTS_OF_A_PROCESS) {
      const child = spawn(...tied([simulator]), {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        env: BARE_ENVIRONMENT,
      });
      children.push(child);
      await ask(child, { kind: 'start', hosts: options.slice(at, at + HOSTS_OF_A_PROCESS) });
    }
    return {
      addresses,
      sshPort,
      tlsPort,
      identityFile: identity.identityFile,
      knownHostsFile,
      endpoints: addresses.map((address) => ({ address, port: tlsPort })),
      counts: async () => sum(await Promise.all(children.map((child) => ask(child, { kind: 'count' })))),
      processorMs: async () => {
        const each = await Promise.all(children.map(({ pid }) => processorMsOf(pid)));
        return each.reduce((total, ms) => total + ms, 0);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** One question at a time. */
async function ask(child: ChildProcess, order: Order): Promise<Report> {
  const gone = new AbortController();
  const onExit = () => gone.abort(new Error('a simulator has ended'));
  child.once('exit', onExit);
  try {
    child.send(order);
    const [report]: Report[] = await once(child, 'message', { signal: gone.signal });
    if (report === undefined) throw new RangeError('a simulator answers with a report');
    return report;
  } finally {
    child.off('exit', onExit);
  }
}

function sum(reports: readonly Report[]): Counts {
  const total: Counts = { looks: 0, logins: 0, handshakes: 0, commits: 0, lastCommitMs: 0 };
  for (const report of reports) {
    if (report.kind !== 'counted') throw new RangeError('a simulator answers what it was asked');
    total.looks += report.looks;
    total.logins += report.logins;
    total.handshakes += report.handshakes;
    total.commits += report.commits;
    total.lastCommitMs = Math.max(total.lastCommitMs, report.lastCommitMs);
  }
  return total;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.disconnect();
  await ended;
}
