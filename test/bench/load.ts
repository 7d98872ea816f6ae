import { assertWork, type Benchmark, type BenchmarkOptions, type Measure } from './benchmark.ts';
import { resumes, untilAllPresent } from './handshakes.ts';
import { type Installation, type Lab, startLab } from './lab.ts';
import { isIssued } from './order.ts';
import { ROLLED_OUT } from './rollout.ts';
import { startService } from './service.ts';
import { swapAgainAndAgain } from './swaps.ts';
import { FAILURES, startWrk, type WrkCounts } from './wrk.ts';

const SWAPS = 1_000;
const ROLLOUTS = 20;
const HOSTS = 3;

/** Once, whatever `--runs` says: what counts is that not one request fails. */
export const load: Benchmark = {
  name: 'load',
  about: `failed requests under wrk, TLS resumption off: ${ROLLOUTS} rollouts and ${SWAPS} swaps on ${HOSTS} hosts`,
  run: async (options) => {
    const lab = await startLab({ hosts: HOSTS, identifiers: [ROLLED_OUT], command: options.command });
    try {
      const installation = await lab.install({ deployed: true });
      await lab.serve(installation);
      const rollouts = await underLoad(lab, `${ROLLOUTS} rollouts on ${HOSTS} hosts`, options, () =>
        rollOut(lab, installation, options),
      );
      const swaps = await underLoad(lab, `${SWAPS} swaps on ${HOSTS} hosts`, options, () =>
        swapAgainAndAgain(lab, installation, SWAPS, options),
      );
      return [failed('load.rollouts', rollouts), failed('load.swaps', swaps)];
    } finally {
      await lab.close();
    }
  },
};

interface Loaded {
  readonly what: string;
  readonly requests: number;
  readonly failed: number;
}

const failed = (name: string, { what, failed, requests }: Loaded): Measure => ({
  name,
  title: `failed requests of ${requests} during ${what}`,
  unit: 'requests',
  target: 0,
  samples: [failed],
});

/** Throws when a request failed, or could have been the second of a TLS session. */
async function underLoad(
  { endpoints }: Lab,
  what: string,
  { say }: BenchmarkOptions,
  act: () => Promise<void>,
): Promise<Loaded> {
  const startMs = performance.now();
  const users = endpoints.map(startWrk);
  const acted = await Promise.allSettled([act()]);
  const counts = await Promise.all(users.map((user) => user.stop()));
  for (const result of acted) if (result.status === 'rejected') throw result.reason;
  const sum = (of: (one: WrkCounts) => number) => counts.reduce((total, one) => total + of(one), 0);
  const requests = sum((one) => one.requests);
  const failures = FAILURES.map((kind) => ({ kind, count: sum((one) => one.failures[kind]) }));
  const failed = failures.reduce((total, { count }) => total + count, 0);
  const told = failures.map(({ kind, count }) => `${kind} ${count}`).join(', ');
  const seconds = ((performance.now() - startMs) / 1_000).toFixed(0);
  say(`load, ${what} in ${seconds} s: ${requests} requests, failed: ${told}`);
  assertWork(failed === 0, `${failed} requests failed during ${what}: ${told}`);
  for (const endpoint of endpoints)
    assertWork(!(await resumes(endpoint)), `${endpoint.address} resumes TLS sessions`);
  return { what, requests, failed };
}

async function rollOut(lab: Lab, installation: Installation, options: BenchmarkOptions): Promise<void> {
  const { signal } = options;
  const service = startService(options, installation.configPath);
  try {
    for (let i = 0, from = 0; i < ROLLOUTS; i++) {
      // The first one is what the service issues of its own accord.
      if (i > 0) await lab.kacme(installation, 'renew', 'site', '--force');
      const { fingerprint256 } = await service.logged(isIssued, { from, signal });
      assertWork(typeof fingerprint256 === 'string', 'kacme does not tell what it issued');
      await untilAllPresent(lab.endpoints, ROLLED_OUT, fingerprint256, { signal });
      const isChanged = ({ msg, fingerprint256: leaf }: { msg: string; fingerprint256?: unknown }) =>
        msg === 'host changed' && leaf === fingerprint256;
      await service.loggedTimes(HOSTS, isChanged, { from, signal });
      from = service.lines;
    }
  } finally {
    await service.stop();
  }
}
