import { once } from 'node:events';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../support/net.ts';
import { testCa } from '../support/pem.ts';
import { assertWork, type Benchmark, type BenchmarkOptions, type Measure } from './benchmark.ts';
import { presentedAt } from './handshakes.ts';
import { type Lab, type LabOptions, startLab } from './lab.ts';
import { logins } from './rollout.ts';
import { type BenchService, type LogLine, startService } from './service.ts';
import { openLink } from './simulation/link.ts';
import { spreadOf } from './statistics.ts';

const CERTIFICATES = 1_000;
/** HAProxy checks each of them before it serves. */
const START_WITHIN_MS = 60_000;
/** The first look reads every file, and all handshakes are made. */
const FIRST_WITHIN_MS = 120_000;
const EVERY_S = 5;
/** Longer than all that kacme and the host need to answer one another: what it adds is round trips. */
const FAR_WAY_MS = 25;

/** The passes of `kacme serve` itself: every file, and all that HAProxy has in memory, is compared with the store. */
export const many: Benchmark = {
  name: 'many',
  about: `a pass over one host with ${CERTIFICATES} certificates, nothing to do`,
  run: async (options) => {
    const { runs, command, say } = options;
    const ca = testCa();
    const bundles = Array.from({ length: CERTIFICATES }, (_, i) => ca.issue([`c${i + 1}.test`]));
    const certificates = Object.fromEntries(
      bundles.map(({ bundlePem }, i) => [`c${i + 1}.pem`, bundlePem] as const),
    );
    const distance = { wayMs: 0, loss: 0, stallMs: 0 };
    const lab = await startLab({
      hosts: 1,
      identifiers: [],
      command,
      haproxy: { certificates, wholeDirectory: true, startWithinMs: START_WITHIN_MS },
      front: throughLinks(distance),
    });
    try {
      const [host] = lab.fleet.hosts;
      if (host === undefined) throw new RangeError('a lab has at least one host');
      await host.haproxy.start();
      const installation = await lab.install({
        deployed: true,
        certificates: CERTIFICATES,
        settings: { reconcile: { every: `${EVERY_S}s` }, log: { level: 'debug' } },
      });
      await lab.kacme(installation, 'adopt', '--from', 'hosts');
      say(`many: ${CERTIFICATES} certificates adopted`);

      const loginsBefore = logins(lab);
      const service = startService(options, installation.configPath);
      try {
        const first = await watchPasses(lab, service, { count: 1, from: 0 }, options);
        const inSync = service.linesFrom(0).filter(({ state }) => state === 'in sync');
        assertWork(inSync.length === CERTIFICATES, `${inSync.length} certificates were found in sync`);
        const from = service.lines;
        const near = await watchPasses(lab, service, { count: runs, from }, options);
        distance.wayMs = FAR_WAY_MS;
        // One pass may be under way already.
        await watchPasses(lab, service, { count: 1, from: service.lines }, options);
        const far = await watchPasses(lab, service, { count: runs, from: service.lines }, options);
        distance.wayMs = 0;
        const changes = service.linesFrom(from).filter(({ msg }) => CHANGES.includes(msg));
        assertWork(changes.length === 0, `there was something to do: ${JSON.stringify(changes[0])}`);
        const made = logins(lab) - loginsBefore;
        assertWork(made === 1, `one connection was to be enough, but ${made} were made`);
        await assertServed(lab, bundles);
        await assertLookedAt(join(host.haproxy.certDirectory, `c${CERTIFICATES}.pem`), service, options);
        return measuresOf(first, near, far);
      } finally {
        await service.stop();
      }
    } finally {
      await lab.close();
    }
  },
};

const CHANGES = ['host changed', 'host not changed', 'place state changed', 'host cannot be observed'];

const isPass = ({ msg }: LogLine): boolean => msg === 'host reconciled';

function throughLinks(distance: {
  wayMs: number;
  loss: number;
  stallMs: number;
}): NonNullable<LabOptions['front']> {
  return async (sshds) => {
    const links = await Promise.all(
      sshds.map(async ({ address, port }) => {
        const from = await freePort(address);
        return { address, port: from, server: await openLink({ address, from, to: port }, distance) };
      }),
    );
    return {
      endpoints: links,
      close: async () => {
        await Promise.all(
          links.map(async ({ server }) => {
            server.close();
            if (server.listening) await once(server, 'close');
          }),
        );
      },
    };
  };
}

interface Passes {
  readonly durationsMs: readonly number[];
  /** Of kacme, a pass, with all that it does between two of them. */
  readonly processorMs: number;
  /** That the host was asked for, a pass. */
  readonly handshakes: number;
}

async function watchPasses(
  { fleet }: Lab,
  service: BenchService,
  { count, from }: { count: number; from: number },
  { signal }: BenchmarkOptions,
): Promise<Passes> {
  const handshakes = async () => {
    const answers = await Promise.all(fleet.hosts.map(({ haproxy }) => haproxy.command('show info')));
    return answers.reduce((sum, info) => sum + Number(/^CumSslConns: (\d+)$/m.exec(info)?.[1]), 0);
  };
  const [processorBeforeMs, handshakesBefore] = [await service.processorMs(), await handshakes()];
  const withinMs = FIRST_WITHIN_MS + count * EVERY_S * 1_000;
  const passes = await service.loggedTimes(count, isPass, { from, withinMs, signal });
  return {
    durationsMs: passes.slice(0, count).map(({ durationMs }) => Number(durationMs)),
    processorMs: ((await service.processorMs()) - processorBeforeMs) / count,
    handshakes: ((await handshakes()) - handshakesBefore) / count,
  };
}

/** By a handshake of the bench's own with each name. */
async function assertServed(
  { endpoints }: Lab,
  bundles: readonly { readonly fingerprint256: string }[],
): Promise<void> {
  for (const endpoint of endpoints) {
    for (const [i, { fingerprint256 }] of bundles.entries()) {
      const presented = await presentedAt(endpoint, `c${i + 1}.test`);
      assertWork(presented.fingerprint256 === fingerprint256, `c${i + 1}.test is served another leaf`);
    }
  }
}

/** A pass that does not look would be the fastest: damage done to a file is repaired by the next one. */
async function assertLookedAt(
  file: string,
  service: BenchService,
  { signal }: BenchmarkOptions,
): Promise<void> {
  const from = service.lines;
  await truncate(file, 100);
  const { path } = await service.logged(({ msg }) => msg === 'host changed', { from, signal });
  assertWork(file.endsWith(String(path).slice(-10)), `${path} was changed in place of ${file}`);
}

function measuresOf(first: Passes, near: Passes, far: Passes): readonly Measure[] {
  const title = `a pass over ${CERTIFICATES} certificates of one host`;
  const ms = (name: string, title: string, target: number | undefined, samples: readonly number[]) => ({
    name: `many.${name}`,
    title,
    unit: 'ms' as const,
    target,
    samples,
  });
  const added = median(far.durationsMs) - median(near.durationsMs);
  return [
    ms('first', `${title}, the first of a process`, undefined, first.durationsMs),
    ms('pass', `${title}, later ones`, 2_000, near.durationsMs),
    ms('processor', "  ... kacme's own processor time", undefined, [near.processorMs]),
    ms('far', `  ... with ${2 * FAR_WAY_MS} ms of delay between kacme and sshd`, undefined, far.durationsMs),
    {
      name: 'many.round-trips',
      title: '  ... so one waits for so many round trips',
      unit: 'round trips',
      target: undefined,
      samples: [Math.max(0, added) / (2 * FAR_WAY_MS)],
    },
    {
      name: 'many.handshakes',
      title: '  ... handshakes in a pass',
      unit: 'handshakes',
      target: undefined,
      samples: [near.handshakes],
    },
  ];
}

const median = (samples: readonly number[]): number => spreadOf(samples).median;
