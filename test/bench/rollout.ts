import { assertWork, type Benchmark, type BenchmarkOptions, FIFTY_HOSTS, type Measure } from './benchmark.ts';
import { untilAllPresent } from './handshakes.ts';
import { type Installation, type Lab, type LabOptions, startLab } from './lab.ts';
import { isIssued } from './order.ts';
import { type BenchService, startService } from './service.ts';
import { describeLinks, startSlowLinks } from './simulation/slow-links.ts';

export const ROLLED_OUT = 'site.test';

/** Milliseconds until the last host serves it, with new and with open connections. */
interface Targets {
  readonly new: number;
  readonly open: number;
}

interface Case {
  readonly name: string;
  readonly hosts: number;
  readonly targets: Targets | undefined;
}

const TEN = 10;

interface Rollout {
  /** Until handshakes of the bench's own saw the new leaf at every host. */
  readonly servedMs: number;
  /** Until kacme had verified every host. */
  readonly verifiedMs: number;
}

/** From `bundle activated` on: a canary, then the other hosts side by side. */
export const rollout: Benchmark = {
  name: 'rollout',
  about: `bundle issued to last of ${TEN} hosts serving it (${TEN} HAProxy, ${TEN} sshd, one pool)`,
  run: (options) => measure({ name: 'rollout', hosts: TEN, targets: { new: 700, open: 300 } }, options),
};

export const fifty: Benchmark = {
  name: 'fifty',
  about: `the same with ${FIFTY_HOSTS} hosts`,
  run: ({ hosts = FIFTY_HOSTS, ...options }) =>
    measure({ name: 'fifty', hosts, targets: ofFifty(hosts, { new: 1_500, open: 300 }) }, options),
};

export const delayed: Benchmark = {
  name: 'delayed',
  about: `the same with ${FIFTY_HOSTS} hosts, SSH through ${describeLinks()}`,
  run: ({ hosts = FIFTY_HOSTS, ...options }) =>
    measure(
      { name: 'delayed', hosts, targets: ofFifty(hosts, { new: 3_000, open: 1_000 }) },
      options,
      (sshds) => startSlowLinks(sshds, options.delayer),
    ),
};

/** Fewer hosts only show that it works. */
const ofFifty = (hosts: number, targets: Targets) => (hosts === FIFTY_HOSTS ? targets : undefined);

type MeasureOptions = Omit<BenchmarkOptions, 'hosts'>;

async function measure(
  { name, hosts, targets }: Case,
  options: MeasureOptions,
  front?: LabOptions['front'],
): Promise<readonly Measure[]> {
  const { command } = options;
  const lab = await startLab({
    hosts,
    identifiers: [ROLLED_OUT],
    command,
    ...(front === undefined ? {} : { front }),
  });
  try {
    const installation = await lab.install({ deployed: true });
    await lab.serve(installation);
    return await measureRollouts(
      { lab, installation, name, suffix: front === undefined ? '' : ', slow links', targets },
      options,
    );
  } finally {
    await lab.close();
  }
}

export interface Measured {
  readonly lab: Lab;
  readonly installation: Installation;
  readonly name: string;
  /** Of each title. */
  readonly suffix: string;
  readonly targets: Targets | undefined;
}

/** With new connections and with open ones, in one `kacme serve`. The hosts of the lab serve already. */
export async function measureRollouts(
  { lab, installation, name, suffix, targets }: Measured,
  options: MeasureOptions,
): Promise<readonly Measure[]> {
  const { runs, say, signal } = options;
  const hosts = lab.endpoints.length;
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
      say(`${name}, ${connections} connections${suffix}: done`);
      measures.push(
        {
          name: `${name}.${connections}.served`,
          title: `bundle issued to last of ${hosts} hosts serving it, ${connections} connections${suffix}`,
          unit: 'ms',
          target: targets?.[connections],
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
}

async function measureRollout(
  lab: Lab,
  installation: Installation,
  service: BenchService,
  connections: 'new' | 'open',
  { signal }: { signal: AbortSignal },
): Promise<Rollout> {
  await service.idle({ signal });
  const loginsBefore = logins(lab);
  // At the last moment: the next look at a host connects again.
  if (connections === 'new') await Promise.all(lab.fleet.hosts.map(({ sshd }) => sshd.killSessions()));
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
  const servedAtMs = await untilAllPresent(endpoints, ROLLED_OUT, fingerprint256, options);
  const changes = await service.loggedTimes(endpoints.length, ({ msg }) => msg === 'host changed', options);
  const verified = changes.every(({ verification }) => JSON.stringify(verification).includes('"verified"'));
  assertWork(verified, 'kacme did not verify every host');
  return {
    servedMs: servedAtMs - timeMs,
    verifiedMs: Math.max(...changes.map((change) => change.timeMs)) - timeMs,
  };
}

/** SSH logins that the hosts have seen so far. */
export function logins({ fleet }: Lab): number {
  const accepted = fleet.hosts.map(({ sshd }) => sshd.output().match(/Accepted publickey/g)?.length ?? 0);
  return accepted.reduce((sum, count) => sum + count, 0);
}
