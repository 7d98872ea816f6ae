import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pino, { type Logger } from 'pino';
import { describe, onTestFinished } from 'vitest';
import type { DeploymentSpec, HostSpec, PoolSpec } from '../../src/domain/model.ts';
import type { PlaceObservation } from '../../src/domain/observation.ts';
import { createHaproxyHosts } from '../../src/haproxy/host.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { HaproxyHost, HaproxyHosts, HostChange, Verification } from '../../src/ports/haproxy-host.ts';
import type { HostSession, OpenHostSession } from '../../src/ports/host-session.ts';
import type { Mandate } from '../../src/ports/leadership.ts';
import { runLocalCommand } from '../../src/ssh/local-command.ts';
import { openHostSession } from '../../src/ssh/open-session.ts';
import { HAPROXY_SERIES, type HaproxySeries } from '../support/haproxy.ts';
import { type HostOptions, startHost, type TestHost } from '../support/host.ts';
import { heldMandate } from '../support/mandate.ts';
import { selfSigned, type TestCertificate } from '../support/pem.ts';

/** The real clock, which a test can move ahead. */
export interface MovableClock extends Clock {
  advance(ms: number): void;
}

export interface HaproxyLab {
  readonly host: TestHost;
  /** kacme's view of it. */
  readonly haproxy: HaproxyHost;
  /** Where it comes from. */
  readonly hosts: HaproxyHosts;
  /** The same HAProxy in another pool. */
  inPool(name: string): HaproxyHost;
  /** A kacme that was started anew: no open connection, no memory. */
  restarted(): HaproxyHost;
  readonly deployment: DeploymentSpec;
  readonly clock: MovableClock;
  readonly old: TestCertificate;
  /** Everything logged, as JSON lines. */
  logged(): string;
  apply(bundle: TestCertificate, options?: ApplyOptions): Promise<Verification>;
  observe(): Promise<PlaceObservation>;
  pem(): Promise<string>;
  /** What a new client is shown. */
  served(): Promise<string>;
}

export interface ApplyOptions extends Partial<Omit<HostChange, 'deployment'>> {
  readonly deployment?: Partial<DeploymentSpec>;
  readonly by?: HaproxyHost;
  readonly signal?: AbortSignal;
  readonly mandate?: Mandate;
}

export interface LabOptions {
  readonly series?: HaproxySeries;
  readonly host?: HostOptions;
  readonly pool?: (host: TestHost) => Partial<PoolSpec>;
  readonly deployment?: Partial<DeploymentSpec>;
  /** Stands around each real session. */
  readonly wrap?: (session: HostSession) => HostSession;
  /** What HAProxy starts with; a new self-signed certificate otherwise. */
  readonly old?: TestCertificate;
}

/** The same tests with every HAProxy that the lab has. */
export function describeEachHaproxy(define: (lab: typeof haproxyLab) => void): void {
  describe.each(HAPROXY_SERIES)('the HAProxy of %s', (series) =>
    define((options) => haproxyLab({ series, ...options })),
  );
}

/** A real HAProxy and a real sshd, seen through the adapter. Everything ends with the test. */
export async function haproxyLab(options: LabOptions = {}): Promise<HaproxyLab> {
  const old = options.old ?? selfSigned('lb.test');
  const host = await startHost({
    ...options.host,
    haproxy: { series: options.series, bundlePem: old.bundlePem, ...options.host?.haproxy },
  });
  onTestFinished(() => host.close());
  const pool: PoolSpec = { ...poolOf(host), ...options.pool?.(host) };
  const spec: HostSpec = { name: host.address, address: host.address, port: host.sshd.port };
  const clock = movableClock();
  const lines: string[] = [];
  const log: Logger = pino({ level: 'trace' }, { write: (line: string) => lines.push(line) });
  const connectWith = (wrap: LabOptions['wrap']) => {
    const hosts = createHaproxyHosts({
      openSession: opener(clock, wrap),
      runLocally: runLocalCommand,
      clock,
      log,
    });
    onTestFinished(() => hosts.close());
    return hosts;
  };
  const hosts = connectWith(options.wrap);
  const haproxy = hosts.host(pool, spec);
  const deployment: DeploymentSpec = { ...deploymentTo(host.certPath), ...options.deployment };
  return {
    host,
    haproxy,
    hosts,
    inPool: (name) => hosts.host({ ...pool, name }, spec),
    restarted: () => connectWith(undefined).host(pool, spec),
    deployment,
    clock,
    old,
    logged: () => lines.join(''),
    apply: async (bundle, { signal, mandate, deployment: other, by, ...change } = {}) => {
      const { verification } = await (by ?? haproxy).apply(
        {
          deployment: { ...deployment, ...other },
          pem: bundle.bundlePem,
          fingerprint256: bundle.fingerprint256,
          writeFile: true,
          listFile: false,
          means: 'swap',
          verifyServername: 'lb.test',
          ...change,
        },
        { signal: signal ?? AbortSignal.timeout(20_000), mandate: mandate ?? heldMandate() },
      );
      return verification;
    },
    observe: async () => {
      const { places } = await haproxy.observe([deployment], { signal: AbortSignal.timeout(20_000) });
      const place = places[deployment.path];
      if (place === undefined) throw new Error('the place was not observed');
      return place;
    },
    pem: () => readFile(host.certPath, 'utf8'),
    served: () => host.haproxy.servedFingerprint256('lb.test'),
  };
}

function opener(clock: Clock, wrap: LabOptions['wrap']): OpenHostSession {
  const open = openHostSession({
    clock,
    random: { uniform: () => 0.5 },
    readSecret: (ref) =>
      'file' in ref ? readFile(ref.file, 'utf8') : Promise.reject(new Error('not in this test')),
  });
  return async (pool, host, options) => {
    const session = await open(pool, host, options);
    return wrap === undefined ? session : wrap(session);
  };
}

function poolOf(host: TestHost): PoolSpec {
  return {
    name: 'lb',
    hosts: [],
    ssh: {
      user: host.sshd.user,
      identity: { file: host.sshd.identityFile },
      knownHosts: host.sshd.knownHostsFile,
      connectTimeoutMs: 5_000,
      jumps: [],
      sftp: 'subsystem',
    },
    haproxy: { socket: host.haproxy.socketPath, masterSocket: undefined },
    verify: { connect: [`{host}:${host.haproxy.tlsPort}`], handshakes: 4, timeoutMs: 5_000 },
    reload: undefined,
    parallel: 1,
    stopAfter: 3,
  };
}

function deploymentTo(path: string): DeploymentSpec {
  return {
    certificate: 'external',
    pool: 'lb',
    path,
    file: path,
    copies: [],
    mode: 0o600,
    owner: undefined,
    group: undefined,
    takeOver: false,
  };
}

function movableClock(): MovableClock {
  let aheadMs = 0;
  return {
    now: () => new Date(Date.now() + aheadMs),
    monotonicMs: () => performance.now() + aheadMs,
    sleep: (ms, { signal }) => sleep(ms, undefined, { signal }),
    advance: (ms) => {
      aheadMs += ms;
    },
  };
}

type Method = Exclude<keyof HostSession, 'closed' | 'close'>;

/** Calls `act` instead of one method of the real session; `proceed` does what was asked. */
export function intercept(
  session: HostSession,
  method: Method,
  act: (path: string, proceed: () => Promise<unknown>) => Promise<unknown>,
): HostSession {
  return new Proxy(session, {
    get: (target, property) => {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      if (property !== method) return value.bind(target);
      return (...args: unknown[]) => act(String(args[0]), () => Reflect.apply(value, target, args));
    },
  });
}
