import pino from 'pino';
import { systemClock, systemRandom } from '../../src/compose/system.ts';
import { loadConfig } from '../../src/config/load.ts';
import { readSecret } from '../../src/config/secret.ts';
import { createHaproxyHosts } from '../../src/haproxy/host.ts';
import type { HaproxyHost } from '../../src/ports/haproxy-host.ts';
import { runLocalCommand } from '../../src/ssh/local-command.ts';
import { openHostSession } from '../../src/ssh/open-session.ts';
import { heldMandate } from '../support/mandate.ts';
import { type TestCa, testCa } from '../support/pem.ts';
import { assertWork } from './benchmark.ts';
import { type Endpoint, presentedAt } from './handshakes.ts';
import type { Installation, Lab } from './lab.ts';
import { ROLLED_OUT } from './rollout.ts';

/**
 * So many new certificates on all hosts of the lab together, one after the other on each and side by side among them, by
 * the adapter that `kacme serve` has for it: file, memory, and all handshakes. A thousand orders would be a benchmark of
 * the CA.
 */
export async function swapAgainAndAgain(
  { endpoints }: Lab,
  { configPath }: Installation,
  times: number,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const { pools, deployments } = await loadConfig([configPath], { signal });
  const pool = pools['loadbalancers'];
  const [deployment] = deployments;
  if (pool === undefined || deployment === undefined) throw new RangeError('the lab deploys to one pool');
  const hosts = createHaproxyHosts({
    openSession: openHostSession({ readSecret, clock: systemClock, random: systemRandom }),
    runLocally: runLocalCommand,
    clock: systemClock,
    log: pino({ level: 'silent' }),
  });
  const ca = testCa();
  let left = times;
  try {
    const swapping = pool.hosts.map(async (spec, i) => {
      const endpoint = endpoints[i];
      if (endpoint === undefined) throw new RangeError('every host of the lab serves TLS');
      const haproxy = hosts.host(pool, spec);
      for (; left > 0; ) {
        left -= 1;
        signal.throwIfAborted();
        await swap(haproxy, endpoint, { deployment, ca }, { signal });
      }
    });
    const swapped = await Promise.allSettled(swapping);
    for (const result of swapped) if (result.status === 'rejected') throw result.reason;
  } finally {
    await hosts.close();
  }
}

async function swap(
  haproxy: HaproxyHost,
  endpoint: Endpoint,
  { deployment, ca }: { deployment: Parameters<HaproxyHost['observe']>[0][number]; ca: TestCa },
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const { bundlePem: pem, fingerprint256 } = ca.issue([ROLLED_OUT]);
  const change = { deployment, pem, fingerprint256, writeFile: true, listFile: false } as const;
  const { verification } = await haproxy.apply(
    { ...change, means: 'swap', verifyServername: ROLLED_OUT },
    { signal, mandate: heldMandate() },
  );
  assertWork(verification.state === 'verified', `a swap on ${endpoint.address} was not verified`);
  const presented = await presentedAt(endpoint, ROLLED_OUT);
  assertWork(presented.fingerprint256 === fingerprint256, `a swap on ${endpoint.address} is not served`);
}
