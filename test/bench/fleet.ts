import { execFile } from 'node:child_process';
import { chmod, copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { Cleanup } from '../support/cleanup.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPebble, type TestPebble } from '../support/pebble.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { assertWork, type Benchmark, type BenchmarkOptions, FLEET_HOSTS, type Measure } from './benchmark.ts';
import { presentedAt } from './handshakes.ts';
import { isIssued } from './order.ts';
import { BARE_ENVIRONMENT, type BenchService, startService, tied } from './service.ts';
import { BUNDLE_PATH, type SimulatedFleet, SOCKET_PATH, startSimulatedFleet } from './simulation/fleet.ts';

const run = promisify(execFile);

const NAME = 'site.test';
const ROLLOUT_WITHIN_MS = 300_000;
/** Two passes over every host, since it is looked at every 30 s and a little earlier. */
const IDLE_MS = 60_000;
/** Handshakes are made less often where nothing has changed for so long. */
const SETTLING_MS = 150_000;

interface Setting {
  readonly fleet: SimulatedFleet;
  readonly service: BenchService;
  /** Runs a command through the control socket; throws unless it ends with exit status 0. */
  readonly kacme: (...args: string[]) => Promise<void>;
}

/** Hosts that speak the real protocols, a thousand unless told otherwise, in a few processes beside kacme's. */
export const fleet: Benchmark = {
  name: 'fleet',
  about: 'simulated hosts: rollout, memory, idle passes (sshd, SFTP, HAProxy and TLS of a few processes)',
  run: async (options) => {
    const { runs, hosts = FLEET_HOSTS, say, signal, simulator } = options;
    const scratch = await scratchDirectory();
    const cleanup = new Cleanup();
    cleanup.add(scratch.remove);
    try {
      const challenge = loopbackAddress();
      const httpPort = await freePort(challenge);
      const pebble = await startPebble({ httpPort, defaultAddress: challenge, reuseAuthorizations: 0 });
      cleanup.add(pebble.close);
      const fleet = await startSimulatedFleet(hosts, simulator);
      cleanup.add(fleet.close);
      const configPath = join(scratch.path, 'kacme.yaml');
      const identity = join(scratch.path, 'id_ed25519');
      await copyFile(fleet.identityFile, identity);
      await chmod(identity, 0o600);
      const config = configuration({
        pebble,
        fleet,
        identity,
        challenge: `${challenge}:${httpPort}`,
        operations: `${challenge}:${await freePort(challenge)}`,
      });
      await writeFile(configPath, stringify({ ...config, store: { file: join(scratch.path, 'store') } }));
      say(`fleet: ${hosts} hosts listen`);

      const startMs = Date.now();
      const service = startService(options, configPath);
      cleanup.add(service.stop);
      const kacme = async (...args: string[]) => {
        const [program, all] = tied([options.command, '--config', configPath, ...args]);
        await run(program, all, { env: BARE_ENVIRONMENT, maxBuffer: 1 << 26 });
      };
      const setting: Setting = { fleet, service, kacme };
      const first = await follow(setting, { from: 0, startMs, signal });
      say(`fleet: first certificate everywhere after ${first.verifiedMs} ms`);
      const rollouts: Rollout[] = [];
      for (let i = 0; i < Math.min(runs, 3); i++) {
        rollouts.push(await measureRollout(setting, { signal }));
        say(`fleet: ${describe(rollouts.at(-1))}`);
      }
      await sleep(SETTLING_MS, undefined, { signal });
      const idle = await measureIdle(setting, options);
      return measuresOf(hosts, first, rollouts, idle);
    } finally {
      await cleanup.close();
    }
  },
};

interface Rollout {
  /** Until the last simulated host had committed the bundle. */
  readonly servedMs: number;
  /** Until kacme had verified the last one. */
  readonly verifiedMs: number;
  readonly processorMs: number;
  readonly simulatorMs: number;
  readonly peakMb: number;
}

async function measureRollout(setting: Setting, { signal }: { signal: AbortSignal }): Promise<Rollout> {
  const { service, kacme } = setting;
  const from = service.lines;
  const renewal = kacme('renew', 'site', '--force');
  const [rollout] = await Promise.all([follow(setting, { from, startMs: undefined, signal }), renewal]);
  return rollout;
}

/** From `bundle activated`, or from `startMs`. */
async function follow(
  { fleet, service }: Setting,
  { from, startMs, signal }: { from: number; startMs: number | undefined; signal: AbortSignal },
): Promise<Rollout> {
  const options = { from, withinMs: ROLLOUT_WITHIN_MS, signal };
  const { timeMs, fingerprint256 } = await service.logged(isIssued, options);
  const [ownMs, simulatorMs] = [await service.processorMs(), await fleet.processorMs()];
  const isDone = ({ msg, fingerprint256: leaf }: { msg: string; fingerprint256?: unknown }) =>
    msg === 'host changed' && leaf === fingerprint256;
  const changes = await service.loggedTimes(fleet.addresses.length, isDone, options);
  const processorMs = (await service.processorMs()) - ownMs;
  const { lastCommitMs } = await fleet.counts();
  for (const endpoint of fleet.endpoints) {
    const presented = await presentedAt(endpoint, NAME);
    assertWork(presented.fingerprint256 === fingerprint256, `${endpoint.address} presents another leaf`);
  }
  const verified = changes.every(({ verification }) => JSON.stringify(verification).includes('"verified"'));
  assertWork(verified, 'kacme did not verify every host');
  const fromMs = startMs ?? timeMs;
  return {
    servedMs: lastCommitMs - fromMs,
    verifiedMs: Math.max(...changes.map((change) => change.timeMs)) - fromMs,
    processorMs,
    simulatorMs: (await fleet.processorMs()) - simulatorMs,
    peakMb: await service.peakMb(),
  };
}

interface Idle {
  /** kacme's processor time for a look at every host. */
  readonly passMs: number;
  readonly passes: number;
  readonly handshakes: number;
  readonly residentMb: number;
}

async function measureIdle({ fleet, service }: Setting, { say, signal }: BenchmarkOptions): Promise<Idle> {
  const [beforeMs, before] = [await service.processorMs(), await fleet.counts()];
  await sleep(IDLE_MS, undefined, { signal });
  const [afterMs, after] = [await service.processorMs(), await fleet.counts()];
  const passes = (after.looks - before.looks) / fleet.addresses.length;
  assertWork(passes >= 1, `only ${after.looks - before.looks} looks in ${IDLE_MS} ms`);
  assertWork(after.commits === before.commits, 'hosts were changed while nothing was to be done');
  const handshakes = after.handshakes - before.handshakes;
  say(`fleet: ${passes.toFixed(2)} passes with ${handshakes} handshakes while idle`);
  const residentMb = await service.residentMb();
  return { passMs: (afterMs - beforeMs) / passes, passes, handshakes, residentMb };
}

function measuresOf(
  hosts: number,
  first: Rollout,
  rollouts: readonly Rollout[],
  idle: Idle,
): readonly Measure[] {
  // Fewer hosts are for whoever works on kacme: the targets are those of a thousand.
  const targets =
    hosts === FLEET_HOSTS
      ? { servedMs: 15_000, residentMb: 160, passMs: 1_500 }
      : { servedMs: undefined, residentMb: undefined, passMs: undefined };
  const ms = (
    name: string,
    title: string,
    target: number | undefined,
    samples: readonly number[],
  ): Measure => ({
    name: `fleet.${name}`,
    title,
    unit: 'ms',
    target,
    samples,
  });
  return [
    ms('first', `start of kacme serve to first certificate verified at ${hosts} hosts`, undefined, [
      first.verifiedMs,
    ]),
    ms(
      'rollout.served',
      `bundle issued to last of ${hosts} simulated hosts serving it`,
      targets.servedMs,
      rollouts.map(({ servedMs }) => servedMs),
    ),
    ms(
      'rollout.verified',
      '  ... to the last one verified by kacme itself',
      undefined,
      rollouts.map(({ verifiedMs }) => verifiedMs),
    ),
    ms(
      'rollout.processor',
      "  ... kacme's own processor time in it",
      undefined,
      rollouts.map(({ processorMs }) => processorMs),
    ),
    {
      name: 'fleet.memory',
      title: `resident memory with ${hosts} hosts connected, idle`,
      unit: 'MB',
      target: targets.residentMb,
      samples: [idle.residentMb],
    },
    {
      name: 'fleet.peak',
      title: '  ... and the most it ever was',
      unit: 'MB',
      target: undefined,
      samples: [Math.max(...rollouts.map(({ peakMb }) => peakMb))],
    },
    ms('idle', `kacme's processor time of an idle pass over ${hosts} hosts`, targets.passMs, [idle.passMs]),
  ];
}

const describe = (rollout: Rollout | undefined): string =>
  rollout === undefined
    ? 'no rollout'
    : `served after ${rollout.servedMs} ms, verified after ${rollout.verifiedMs} ms; processor ${rollout.processorMs} ms kacme, ${rollout.simulatorMs} ms simulators; peak ${rollout.peakMb.toFixed(0)} MB`;

function configuration({
  pebble: { directoryUrl, caFile, dns },
  fleet,
  identity,
  challenge,
  operations,
}: {
  pebble: TestPebble;
  fleet: SimulatedFleet;
  identity: string;
  challenge: string;
  operations: string;
}) {
  return {
    issuers: {
      pebble: {
        directory: directoryUrl,
        caFile,
        contact: ['mailto:ops@example.org'],
        termsOfServiceAgreed: true,
      },
    },
    certificates: { site: { identifiers: [NAME], issuers: ['pebble'], key: 'ecdsa-p256' } },
    pools: {
      loadbalancers: {
        hosts: fleet.addresses.map((address) => `${address}:${fleet.sshPort}`),
        ssh: { user: 'haproxy', identity: { file: identity }, knownHosts: fleet.knownHostsFile },
        haproxy: { socket: SOCKET_PATH },
        verify: { connect: [`{host}:${fleet.tlsPort}`] },
      },
    },
    deployments: [{ certificate: 'site', pool: 'loadbalancers', path: BUNDLE_PATH }],
    // Pebble asks the challenge server itself: no host forwards to it here.
    challenge: { listen: challenge, resolvers: [dns], selfCheck: { via: `http://${challenge}` } },
    operations: { listen: operations },
  };
}
