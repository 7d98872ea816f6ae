import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertWork, type Benchmark, type BenchmarkOptions, type Measure } from './benchmark.ts';
import { type Endpoint, presentedAt } from './handshakes.ts';
import { type Installation, type Lab, startLab } from './lab.ts';
import { isIssued } from './order.ts';
import { BARE_ENVIRONMENT, startService, tied } from './service.ts';

const HOSTS = 3;
const NAME = 'site.test';
const IDLE_MS = 10_000;
const READY_WITHIN_MS = 10_000;

interface Start {
  readonly readyMs: number;
  readonly idleMb: number;
}

/** Spawn of the process to `/readyz` saying yes and the challenge port answering; memory when it then idles. */
export const startup: Benchmark = {
  name: 'startup',
  about: `kacme serve with one valid certificate in its store, and with no hosts or ${HOSTS} hosts in sync`,
  run: async (options) => {
    const { runs, command, say } = options;
    const nodeMs = await repeat(runs, measureNode);
    const lab = await startLab({ hosts: HOSTS, identifiers: [NAME], command });
    try {
      const three = await lab.install({ deployed: true });
      // The same store, so the same certificate: nothing is issued while it is measured.
      const none = await lab.install({ deployed: false, storePath: three.storePath });
      const afterOrderMb = await prepare(lab, three, options);
      const measures: Measure[] = [
        {
          name: 'startup.node',
          title: 'node -e 0, spawn to end',
          unit: 'ms',
          target: undefined,
          samples: nodeMs,
        },
      ];
      for (const [name, title, installation] of [
        ['none', 'no hosts', none],
        ['three', `${HOSTS} hosts in sync`, three],
      ] as const) {
        const hosts = installation === three ? HOSTS : 0;
        const starts = await repeat(runs, () => measureStart(lab, installation, hosts, options));
        say(`startup, ${title}: done`);
        measures.push(
          {
            name: `startup.${name}.ready`,
            title: `kacme serve ready, ${title}`,
            unit: 'ms',
            target: 300,
            samples: starts.map(({ readyMs }) => readyMs),
          },
          {
            name: `startup.${name}.memory`,
            title: `resident memory after ${IDLE_MS / 1_000} idle seconds, ${title}`,
            unit: 'MB',
            target: 70,
            samples: starts.map(({ idleMb }) => idleMb),
          },
        );
      }
      measures.push({
        name: 'startup.three.memory-after-order',
        title: `  ... and in a process that has issued and rolled out to ${HOSTS} hosts`,
        unit: 'MB',
        target: undefined,
        samples: [afterOrderMb],
      });
      return measures;
    } finally {
      await lab.close();
    }
  },
};

async function repeat<T>(count: number, measure: () => Promise<T>): Promise<readonly T[]> {
  const results: T[] = [];
  for (let i = 0; i < count; i++) results.push(await measure());
  return results;
}

/** What of a start is Node's own, measured alike. */
async function measureNode(): Promise<number> {
  const startMs = performance.now();
  const child = spawn(...tied(['-e', '0']), { stdio: 'ignore', env: BARE_ENVIRONMENT });
  const [status] = await once(child, 'close');
  assertWork(status === 0, 'node -e 0 failed');
  return performance.now() - startMs;
}

/** Brings a certificate of the CA to every host. Resolves to the memory in MB that this leaves in use. */
async function prepare(lab: Lab, installation: Installation, options: BenchmarkOptions): Promise<number> {
  const { signal } = options;
  await lab.serve(installation);
  const service = startService(options, installation.configPath);
  try {
    const from = 0;
    const { fingerprint256 } = await service.logged(isIssued, { from, signal });
    await service.loggedTimes(HOSTS, ({ msg }) => msg === 'host changed', { from, signal });
    const presented = await Promise.all(lab.endpoints.map((endpoint) => presentedAt(endpoint, NAME)));
    const everywhere = presented.every((leaf) => leaf.fingerprint256 === fingerprint256);
    assertWork(everywhere, 'not every host presents the issued leaf');
    await sleep(IDLE_MS, undefined, { signal });
    return await service.residentMb();
  } finally {
    await service.stop();
  }
}

async function measureStart(
  { challenge }: Lab,
  { configPath, operations }: Installation,
  hosts: number,
  options: BenchmarkOptions,
): Promise<Start> {
  const { signal } = options;
  const startMs = performance.now();
  const service = startService(options, configPath);
  try {
    await Promise.all([
      untilAnswered(operations, '/readyz', 200, { signal }),
      untilAnswered(challenge, '/.well-known/acme-challenge/unknown', 404, { signal }),
    ]);
    const readyMs = performance.now() - startMs;
    const inSync = ({ msg, state }: { msg: string; state?: unknown }) =>
      msg === 'place state changed' && state === 'in sync';
    await service.loggedTimes(hosts, inSync, { from: 0, signal });
    await service.idle({ signal });
    await sleep(IDLE_MS, undefined, { signal });
    return { readyMs, idleMb: await service.residentMb() };
  } finally {
    await service.stop();
  }
}

/** A refused connection costs the service nothing, an answer does: it is asked less often once it listens. */
async function untilAnswered(
  endpoint: Endpoint,
  path: string,
  expected: number,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const deadlineMs = performance.now() + READY_WITHIN_MS;
  while (performance.now() < deadlineMs) {
    const status = await statusOf(endpoint, path);
    if (status === expected) return;
    await sleep(status === undefined ? 1 : 5, undefined, { signal });
  }
  const { address, port } = endpoint;
  throw new Error(`http://${address}:${port}${path} did not answer ${expected} within ${READY_WITHIN_MS} ms`);
}

/** Undefined while nothing listens there. */
function statusOf({ address, port }: Endpoint, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get({ host: address, port, path, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', (error) => {
      if ('code' in error && error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(error);
    });
  });
}
