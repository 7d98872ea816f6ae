import { assertWork, type Benchmark, type BenchmarkOptions, type Measure } from './benchmark.ts';
import { untilAllPresent } from './handshakes.ts';
import { type Installation, type Lab, startLab } from './lab.ts';
import { isIssued } from './order.ts';
import { type BenchService, startService } from './service.ts';

const HOSTS = 10;
const NAME = 'site.test';

const CASES = [
  { name: 'new', title: 'new connections', target: 800 },
  { name: 'open', title: 'open connections', target: 300 },
] as const;

interface Rollout {
  /** Until handshakes of the bench's own saw the new leaf at every host. */
  readonly servedMs: number;
  /** Until kacme had verified every host. */
  readonly verifiedMs: number;
}

/** From `bundle activated` on: a canary, then the other nine hosts side by side. */
export const rollout: Benchmark = {
  name: 'rollout',
  about: `bundle issued to last of ${HOSTS} hosts serving it (${HOSTS} HAProxy, ${HOSTS} sshd, one pool)`,
  run: async (options) => {
    const { runs, command, say, signal } = options;
    const lab = await startLab({ hosts: HOSTS, identifiers: [NAME], command });
    try {
      const installation = await lab.install({ deployed: true });
      await lab.kacme(installation, 'bootstrap');
      await Promise.all(lab.fleet.hosts.map(({ haproxy }) => haproxy.start()));
      const service = startService(options, installation.configPath);
      try {
        const changed = ({ msg }: { msg: string }) => msg === 'host changed';
        await service.loggedTimes(HOSTS, changed, { from: 0, signal });
        const measures: Measure[] = [];
        for (const { name, title, target } of CASES) {
          const samples: Rollout[] = [];
          for (let i = 0; i < runs; i++) {
            samples.push(await measureRollout(lab, installation, service, name, options));
          }
          say(`rollout, ${title}: done`);
          measures.push(
            {
              name: `rollout.${name}.served`,
              title: `bundle issued to last of ${HOSTS} hosts serving it, ${title}`,
              unit: 'ms',
              target,
              samples: samples.map(({ servedMs }) => servedMs),
            },
            {
              name: `rollout.${name}.verified`,
              title: `  ... to the last one verified by kacme itself`,
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
  },
};

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
  const expected = connections === 'new' ? HOSTS : 0;
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
  const changes = await service.loggedTimes(HOSTS, ({ msg }) => msg === 'host changed', options);
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
