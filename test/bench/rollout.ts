import { assertWork, type Benchmark, type BenchmarkOptions, type Measure } from './benchmark.ts';
import { untilAllPresent } from './handshakes.ts';
import { type Installation, type Lab, startLab } from './lab.ts';
import { isIssued } from './order.ts';
import { type BenchService, startService } from './service.ts';

const NAME = 'site.test';

interface Case {
  readonly hosts: number;
  /** Milliseconds until the last host serves it, with new and with open connections. */
  readonly targets: { readonly new: number; readonly open: number };
}

const TEN: Case = { hosts: 10, targets: { new: 700, open: 300 } };
const FIFTY: Case = { hosts: 50, targets: { new: 1_500, open: 300 } };

interface Rollout {
  /** Until handshakes of the bench's own saw the new leaf at every host. */
  readonly servedMs: number;
  /** Until kacme had verified every host. */
  readonly verifiedMs: number;
}

/** From `bundle activated` on: a canary, then the other hosts side by side. */
export const rollout: Benchmark = {
  name: 'rollout',
  about: `bundle issued to last of ${TEN.hosts} hosts serving it (${TEN.hosts} HAProxy, ${TEN.hosts} sshd, one pool)`,
  run: (options) => measure('rollout', TEN, options),
};

export const fifty: Benchmark = {
  name: 'fifty',
  about: `the same with ${FIFTY.hosts} hosts`,
  run: (options) => measure('fifty', FIFTY, options),
};

async function measure(
  name: string,
  { hosts, targets }: Case,
  options: BenchmarkOptions,
): Promise<readonly Measure[]> {
  const { runs, command, say, signal } = options;
  const lab = await startLab({ hosts, identifiers: [NAME], command });
  try {
    const installation = await lab.install({ deployed: true });
    await lab.serve(installation);
    const service = startService(options, installation.configPath);
    try {
      const changed = ({ msg }: { msg: string }) => msg === 'host changed';
      await service.loggedTimes(hosts, changed, { from: 0, signal });
      const measures: Measure[] = [];
      for (const connections of ['new', 'open'] as const) {
        const samples: Rollout[] = [];
        for (let i = 0; i < runs; i++) {
          samples.push(await measureRollout(lab, installation, service, connections, options));
        }
        say(`${name}, ${connections} connections: done`);
        measures.push(
          {
            name: `${name}.${connections}.served`,
            title: `bundle issued to last of ${hosts} hosts serving it, ${connections} connections`,
            unit: 'ms',
            target: targets[connections],
            samples: samples.map(({ servedMs }) => servedMs),
          },
          {
            name: `${name}.${connections}.verified`,
            title: '  ... to the last one verified by kacme itself',
            unit: 'ms',
            target: undefined,
            samples: samples.map(({ verifiedMs }) => verifiedMs),
          },
        );
      }
      return measures;
    } finally {
      await service.stop();
    }
  } finally {
    await lab.close();
  }
}

async function measureRollout(
  lab: Lab,
  installation: Installation,
  service: BenchService,
  connections: 'new' | 'open',
  { signal }: BenchmarkOptions,
): Promise<Rollout> {
  if (connections === 'new') await Promise.all(lab.fleet.hosts.map(({ sshd }) => sshd.killSessions()));
  await service.idle({ signal });
  const loginsBefore = logins(lab);
  const from = service.lines;
  const renewal = lab.kacme(installation, 'renew', 'site', '--force');
  const [{ servedMs, verifiedMs }] = await Promise.all([follow(lab, service, { from, signal }), renewal]);
  const expected = connections === 'new' ? lab.fleet.hosts.length : 0;
  const made = logins(lab) - loginsBefore;
  assertWork(made === expected, `${expected} new connections were to be measured, but ${made} were made`);
  return { servedMs, verifiedMs };
}

async function follow(
  { endpoints }: Lab,
  service: BenchService,
  options: { from: number; signal: AbortSignal },
): Promise<Rollout> {
  const { timeMs, fingerprint256 } = await service.logged(isIssued, options);
  assertWork(typeof fingerprint256 === 'string', 'kacme does not tell what it issued');
  const servedAtMs = await untilAllPresent(endpoints, NAME, fingerprint256, options);
  const changes = await service.loggedTimes(endpoints.length, ({ msg }) => msg === 'host changed', options);
  const verified = changes.every(({ verification }) => JSON.stringify(verification).includes('"verified"'));
  assertWork(verified, 'kacme did not verify every host');
  return {
    servedMs: servedAtMs - timeMs,
    verifiedMs: Math.max(...changes.map((change) => change.timeMs)) - timeMs,
  };
}

/** SSH logins that the hosts have seen so far. */
function logins({ fleet }: Lab): number {
  const accepted = fleet.hosts.map(({ sshd }) => sshd.output().match(/Accepted publickey/g)?.length ?? 0);
  return accepted.reduce((sum, count) => sum + count, 0);
}
