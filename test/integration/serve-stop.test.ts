import { access, readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Status } from '../../src/domain/status.ts';
import { type AcmeGate, startAcmeGate } from '../support/acme-gate.ts';
import { watchBundle } from '../support/bundle-watch.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { SEEN_AT, type TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';
import { type SocketGate, startSocketGate } from '../support/socket-gate.ts';

const GATED_SOCKET = 'gated.sock';
const PATHS = haproxyPaths(SEEN_AT);
/** A stop may wait for an undo, which is a few round trips. */
const STOPS_WITHIN_MS = 10_000;

let lab: LabKacme;
let acme: AcmeGate;
let haproxy: SocketGate;
let service: TestService;
let hasEnded = false;

beforeAll(async () => {
  const gatedPath = join(SEEN_AT, GATED_SOCKET);
  lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    haproxy: { moreBundles: ['more.pem'], certificates: { 'more.pem': selfSigned('more.test').bundlePem } },
    sshd: { forward: [gatedPath] },
  });
  acme = await startAcmeGate(lab.pebble);
  haproxy = await startSocketGate(join(theHost().directory, GATED_SOCKET), theHost().haproxy.socketPath);
  await configure();
});
afterAll(async () => {
  await lab?.close();
  await haproxy?.close();
  await acme?.close();
});
beforeEach(async () => {
  if (service === undefined || hasEnded) await start();
  await lab.kacme.settled();
});

async function start(): Promise<void> {
  const started = await lab.kacme.serve();
  service = started;
  hasEnded = false;
  void started.exited.then(() => {
    hasEnded = service === started;
  });
}

function theHost(): TestHost {
  const [host] = lab.fleet.hosts;
  if (host === undefined) throw new Error('the lab has no host');
  return host;
}

/** The gates stay in whatever else is laid over the configuration. */
function configure(more: Readonly<Record<string, unknown>> = {}): Promise<void> {
  return lab.kacme.overlay({
    issuers: { pebble: { directory: acme.directoryUrl, caFile: acme.caFile } },
    pools: { lb: { haproxy: { socket: join(SEEN_AT, GATED_SOCKET) } } },
    ...more,
  });
}

async function stopped(): Promise<{ code: number | null; signal: NodeJS.Signals | null; afterMs: number }> {
  const startMs = performance.now();
  service.signal('SIGTERM');
  const ending = await service.exited;
  return { ...ending, afterMs: performance.now() - startMs };
}

/** Nothing is left of a service that ended. */
async function expectAllGivenBack(): Promise<void> {
  await expect(access(join(lab.kacme.storePath, 'kacme.sock'))).rejects.toMatchObject({ code: 'ENOENT' });
  for (const endpoint of [service.operations, lab.challengeListen])
    expect(await connectError(endpoint)).toBe('ECONNREFUSED');
}

function connectError(endpoint: string): Promise<string | undefined> {
  const [host = '', port] = endpoint.split(':');
  return new Promise((resolve) => {
    const socket = connect(Number(port), host, () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
}

describe('SIGTERM', () => {
  test('ends an idle service at once, and everything it held is given back', async () => {
    const { afterMs, ...ending } = await stopped();
    expect(ending).toEqual({ code: 0, signal: null });
    expect(afterMs).toBeLessThan(STOPS_WITHIN_MS);
    await expectAllGivenBack();
    expect(service.log().at(-1)?.msg).toBe('stopped');
  });

  test('during an order leaves the order to the next start', async () => {
    const { reached, release } = acme.hold(/^\/finalize-order\//, 'before');
    const renewal = lab.kacme.run('renew', '--force');
    await reached;
    const { afterMs, ...ending } = await stopped();
    release();

    expect(ending).toEqual({ code: 0, signal: null });
    expect(afterMs).toBeLessThan(STOPS_WITHIN_MS);
    expect(await renewal).toMatchObject({ status: 1, stderr: expect.stringContaining('stops') });
    await expectAllGivenBack();
    const { certificates } = await lab.kacme.status();
    expect(certificates[0]?.lastFailure).toBeUndefined();
    await start();
    await service.logged('order resumed', { certificate: 'site' });
    await service.logged('issuance finished', { certificate: 'site' });
    await lab.kacme.settled();
  });

  test('during the change of a host undoes it first', async () => {
    const [before] = await lab.served();
    const watch = watchBundle(theHost().certPath);
    const { reached, release } = haproxy.hold(/^commit ssl cert/, 'before');
    const renewal = lab.kacme.run('renew', '--force');
    await reached;
    const { afterMs, ...ending } = await stopped();
    release();
    const { unloadable } = await watch.stop();
    await renewal;

    expect(ending).toEqual({ code: 0, signal: null });
    expect(afterMs).toBeLessThan(STOPS_WITHIN_MS);
    await expectAllGivenBack();
    expect(unloadable).toEqual([]);
    expect(await lab.served()).toEqual([before]);
    expect((await readdir(theHost().haproxy.certDirectory)).sort()).toEqual(['haproxy.pem', 'more.pem']);
    expect(await theHost().haproxy.command('show ssl cert')).not.toContain('*');
    await start();
    await lab.kacme.settled();
  });

  test('given twice ends it at once, and the next start puts the host in order', async () => {
    const commit = haproxy.hold(/^commit ssl cert/, 'before');
    const watch = watchBundle(theHost().certPath);
    const renewal = lab.kacme.run('renew', '--force');
    await commit.reached;
    const undo = haproxy.hold(/^show /, 'before');
    service.signal('SIGTERM');
    await undo.reached;
    expect(await stopped()).toMatchObject({ code: 143, signal: null });
    commit.release();
    undo.release();
    await renewal;
    await start();
    const { certificates } = await lab.kacme.settled();
    expect(await lab.served()).toEqual([certificates[0]?.fingerprint256]);
    expect((await watch.stop()).unloadable).toEqual([]);
  });
});

describe('a changed configuration', () => {
  const site = { certificate: 'site', pool: 'lb', path: PATHS.certPath };
  const more = { certificate: 'more', pool: 'lb', path: join(PATHS.certDirectory, 'more.pem') };
  const moreConfig = {
    certificates: { more: { identifiers: ['more.test'], issuers: ['pebble'] } },
    deployments: [site, more],
  };

  test('is taken over on SIGHUP: an added certificate is issued and deployed', async () => {
    onTestFinished(() => configure());
    await configure(moreConfig);
    service.signal('SIGHUP');
    await service.logged('configuration taken over');
    await service.logged('issuance finished', { certificate: 'more' });
    const status = await lab.kacme.settled();
    expect(status.certificates.map(({ name }) => name)).toEqual(['site', 'more']);
    const issued = status.certificates.find(({ name }) => name === 'more');
    expect(await lab.served('more.test')).toEqual([issued?.fingerprint256]);
    expect(issued?.issuer).toBe('pebble');
    const [placeStatus] = status.hosts;
    expect(placeStatus?.places).toMatchObject([{ state: 'in sync' }, { state: 'in sync' }]);
  });

  test('is refused whole when anything in it is wrong, and the old one stays in force', async () => {
    onTestFinished(() => configure());
    const before = await lab.kacme.status();
    await configure({
      certificates: { ...moreConfig.certificates, site: { key: 'dsa' } },
      deployments: [site, { ...more, pool: 'nowhere' }],
    });
    service.signal('SIGHUP');
    await service.logged('configuration refused; the old one stays in force');
    const reload = await lab.kacme.run('reload-config');
    expect(reload.status).toBe(2);
    expect(reload.stderr).toContain('certificates.site.key');
    expect(reload.stderr).toContain('nowhere');
    await configure();
    expect(what(await lab.kacme.status())).toEqual(what(before));
  });

  test('is refused by the service when it needs a restart', async () => {
    onTestFinished(() => configure());
    await configure({ log: { level: 'debug' } });
    const reload = await lab.kacme.run('reload-config');
    expect(reload).toMatchObject({ status: 2, stderr: expect.stringContaining('log') });
  });

  test('is taken over by reload-config', async () => {
    onTestFinished(() => configure());
    await configure({ keepBundles: 1 });
    expect(await lab.kacme.run('reload-config')).toMatchObject({ status: 0 });
    await eventually(
      'it leads with it',
      () => service.log().filter(({ msg }) => msg === 'leading').length > 1,
    );
  });
});

/** Without what every look words anew. */
const what = ({ certificates, hosts }: Status) => ({
  certificates,
  places: hosts.flatMap(({ places }) =>
    places.map(({ certificate, path, generation, state }) => ({ certificate, path, generation, state })),
  ),
});
