import { assertWork, type Benchmark, type BenchmarkOptions, type Measure } from './benchmark.ts';
import { presentedAt } from './handshakes.ts';
import { type Lab, startLab } from './lab.ts';
import { type BenchService, type LogLine, startService } from './service.ts';

/** Later orders of a process, after its first one. */
const FOLLOWING = 3;

const CASES = [
  { names: 1, title: '1 name', target: 400 },
  { names: 10, title: '10 names', target: 600 },
];

/** From `issuance started` to `issuance finished`: everything until the bundle is active in the store. */
export const order: Benchmark = {
  name: 'order',
  about: 'order to bundle against Pebble, ECDSA, each name validated through HAProxy',
  run: async (options) => {
    const measures: Measure[] = [];
    for (const { names, title, target } of CASES) {
      const { first, following } = await measureOrders(names, options);
      options.say(`order, ${title}: done`);
      const measure = (name: string, suffix: string, samples: readonly number[]): Measure => ({
        name: `order.${names}.${name}`,
        title: `order to bundle, ${title}, ${suffix}`,
        unit: 'ms',
        target,
        samples,
      });
      measures.push(measure('first', 'first of a process', first));
      measures.push(measure('following', 'later ones', following));
    }
    return measures;
  },
};

async function measureOrders(names: number, options: BenchmarkOptions) {
  const { runs, command, signal } = options;
  const identifiers = Array.from({ length: names }, (_, i) => `name${i + 1}.test`);
  const lab = await startLab({ hosts: 1, identifiers, command });
  const first: number[] = [];
  const following: number[] = [];
  try {
    for (let i = 0; i < runs; i++) {
      // A new store has a new account key: the first order registers it, over the first connection to the CA.
      const installation = await lab.install({ deployed: true });
      await lab.serve(installation);
      const service = startService(options, installation.configPath);
      try {
        first.push(await issued(lab, service, { from: 0, signal }));
        for (let n = 0; n < FOLLOWING; n++) {
          await service.idle({ signal });
          const from = service.lines;
          await lab.kacme(installation, 'renew', 'site', '--force');
          following.push(await issued(lab, service, { from, signal }));
        }
      } finally {
        await service.stop();
      }
    }
  } finally {
    await lab.close();
  }
  return { first, following };
}

/** The duration that kacme tells, once the host is seen to present what it issued. */
async function issued(
  { endpoints, identifiers }: Lab,
  service: BenchService,
  options: { from: number; signal: AbortSignal },
): Promise<number> {
  const { durationMs } = await service.logged(({ msg }) => msg === 'issuance finished', options);
  const { fingerprint256 } = await service.logged(isIssued, options);
  await service.logged(({ msg }) => msg === 'host changed', options);
  const [endpoint = { address: '', port: 0 }] = endpoints;
  const [name = ''] = identifiers;
  const presented = await presentedAt(endpoint, name);
  assertWork(presented.fingerprint256 === fingerprint256, 'the host does not present the issued leaf');
  const missing = identifiers.filter((identifier) => !presented.names.includes(identifier));
  assertWork(missing.length === 0, `the issued leaf does not name ${missing.join(', ')}`);
  assertWork(typeof durationMs === 'number', 'kacme tells no duration');
  return durationMs;
}

export const isIssued = ({ msg, origin }: LogLine): boolean =>
  msg === 'bundle activated' && origin === 'acme';
