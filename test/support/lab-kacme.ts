import { Cleanup } from './cleanup.ts';
import { startFleet, type TestFleet } from './fleet.ts';
import type { HaproxyOptions } from './haproxy.ts';
import { freeEndpoint, type KacmeOptions, SEEN_AT, setUpKacme, type TestKacme } from './kacme.ts';
import { freePort, loopbackAddress } from './net.ts';
import { type PebbleOptions, startPebble, type TestPebble } from './pebble.ts';
import type { SshdOptions } from './sshd.ts';

export interface LabOptions {
  readonly hosts?: number;
  /** What every host has before kacme comes; without it HAProxy cannot start, and is not started. */
  readonly bundlePem?: string;
  readonly haproxy?: Pick<HaproxyOptions, 'moreBundles' | 'certificates' | 'bindArguments' | 'env'>;
  readonly sshd?: Pick<SshdOptions, 'forward' | 'port'>;
  readonly certificates?: KacmeOptions['certificates'];
  readonly overlay?: KacmeOptions['overlay'];
  readonly pebble?: Omit<PebbleOptions, 'httpPort' | 'defaultAddress'>;
}

export interface LabKacme extends AsyncDisposable {
  readonly pebble: TestPebble;
  readonly fleet: TestFleet;
  readonly kacme: TestKacme;
  /** `address:port` of kacme's challenge server, behind HAProxy. */
  readonly challengeListen: string;
  /** What each host presents in a handshake now: SHA-256 of the leaf. */
  served(servername?: string): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** A CA, hosts in one pool, and kacme: names resolve to the first host, whose HAProxy forwards challenges to kacme. */
export async function labKacme(options: LabOptions = {}): Promise<LabKacme> {
  const cleanup = new Cleanup();
  const { close } = cleanup;
  try {
    const challengeListen = await freeEndpoint();
    const [httpPort, tlsPort] = await Promise.all([freePort(loopbackAddress()), freePort(loopbackAddress())]);
    const { bundlePem } = options;
    const fleet = await startFleet(options.hosts ?? 1, () => ({
      seenAt: SEEN_AT,
      ...(options.sshd === undefined ? {} : { sshd: options.sshd }),
      haproxy: {
        ...options.haproxy,
        httpPort,
        tlsPort,
        challengeBackend: challengeListen,
        bundlePem,
        started: bundlePem !== undefined,
      },
    }));
    cleanup.add(fleet.close);
    const pebble = await startPebble({
      ...options.pebble,
      httpPort,
      defaultAddress: fleet.hosts[0]?.address ?? '',
    });
    cleanup.add(pebble.close);
    const { certificates = { site: ['site.test'] }, overlay = {} } = options;
    const kacme = await setUpKacme({ fleet, pebble, challengeListen, certificates, overlay });
    cleanup.add(kacme.close);
    const [name = ''] = Object.values(certificates)[0] ?? [];
    const served = (servername = name) =>
      Promise.all(fleet.hosts.map(({ haproxy }) => haproxy.servedFingerprint256(servername)));
    return { pebble, fleet, kacme, challengeListen, served, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
