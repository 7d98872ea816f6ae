import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AcmeGate, startAcmeGate } from '../support/acme-gate.ts';
import { type BundleSightings, watchBundle } from '../support/bundle-watch.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { Hold, Side } from '../support/holds.ts';
import { SEEN_AT, type TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';
import { type SocketGate, startSocketGate } from '../support/socket-gate.ts';

const GATED_SOCKET = 'gated.sock';

let lab: LabKacme;
let acme: AcmeGate;
let haproxy: SocketGate;
let service: TestService;

beforeAll(async () => {
  const { socketPath } = haproxyPaths(SEEN_AT);
  const gatedPath = join(SEEN_AT, GATED_SOCKET);
  lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    sshd: { forward: [gatedPath, socketPath] },
    // Every order then needs its authorization.
    pebble: { reuseAuthorizations: 0 },
  });
  acme = await startAcmeGate(lab.pebble);
  const host = lab.fleet.hosts[0];
  if (host === undefined) throw new Error('the lab has no host');
  haproxy = await startSocketGate(join(host.directory, GATED_SOCKET), host.haproxy.socketPath);
  await lab.kacme.overlay({
    issuers: { pebble: { directory: acme.directoryUrl, caFile: acme.caFile } },
    pools: { lb: { haproxy: { socket: gatedPath } } },
  });
  service = await lab.kacme.serve();
  await lab.kacme.settled();
});
afterAll(async () => {
  await lab?.close();
  await haproxy?.close();
  await acme?.close();
});

/** Begins a renewal, kills the service with SIGKILL at that moment, and starts it again. */
async function killedAt({ reached, release }: Hold): Promise<TestService> {
  const renewal = lab.kacme.run('renew', '--force');
  await Promise.race([
    reached,
    renewal.then(({ stderr }) => Promise.reject(new Error(`too late: ${stderr}`))),
  ]);
  service.signal('SIGKILL');
  await service.exited;
  release();
  expect(await renewal).toMatchObject({ status: 1 });
  service = await lab.kacme.serve();
  return service;
}

/** The host's bundle could be loaded at every instant, and the host has what is active in the end. */
async function whileWatched(act: () => Promise<void>): Promise<BundleSightings> {
  const [host] = lab.fleet.hosts;
  const watch = watchBundle(host?.certPath ?? '');
  try {
    await act();
    const { certificates } = await lab.kacme.settled();
    expect(await lab.served()).toEqual([certificates[0]?.fingerprint256]);
    await eventually('nothing is left beside the bundle', async () =>
      (await readdir(host?.haproxy.certDirectory ?? '')).every((name) => name === 'haproxy.pem'),
    );
  } finally {
    await watch.stop();
  }
  const sightings = await watch.stop();
  expect(sightings.unloadable).toEqual([]);
  expect(sightings.reads).toBeGreaterThan(10);
  return sightings;
}

const finalizations = () => acme.passed.filter(({ path }) => path.startsWith('/finalize-order/'));

/** An order has a path of its own to be finalized at; a nonce that was refused is no finalization. */
function expectOneFinalizationEach(): void {
  const accepted = finalizations().filter(({ status }) => status === 200);
  expect(accepted.map(({ path }) => path)).toEqual([...new Set(accepted.map(({ path }) => path))]);
}

describe('serve killed during an order', () => {
  test.each<{ at: string; path: RegExp; side: Side; ends: RegExp }>([
    { at: 'before newOrder is sent', path: /^\/order-plz$/, side: 'before', ends: /^order abandoned$/ },
    { at: 'before the answer to newOrder', path: /^\/order-plz$/, side: 'after', ends: /^order abandoned$/ },
    { at: 'when the order is created', path: /^\/authZ\//, side: 'before', ends: /^order resumed$/ },
    { at: 'before the challenge is announced', path: /^\/chalZ\//, side: 'before', ends: /^order resumed$/ },
    {
      at: 'when the challenge is announced',
      path: /^\/chalZ\//,
      side: 'after',
      ends: /^order (resumed|abandoned)$/,
    },
    { at: 'before finalize is sent', path: /^\/finalize-order\//, side: 'before', ends: /^order resumed$/ },
    {
      at: 'before the answer to finalize',
      path: /^\/finalize-order\//,
      side: 'after',
      ends: /^order resumed$/,
    },
    { at: 'before the download', path: /^\/certZ\//, side: 'before', ends: /^order resumed$/ },
    { at: 'before the end of the download', path: /^\/certZ\//, side: 'after', ends: /^order resumed$/ },
  ])('$at: the next start resumes or abandons it visibly', async ({ path, side, ends }) => {
    const before = finalizations().length;
    await whileWatched(async () => {
      const restarted = await killedAt(acme.hold(path, side));
      await restarted.logged('issuance finished', { certificate: 'site' });
      expect(restarted.log().map(({ msg }) => msg)).toContainEqual(expect.stringMatching(ends));
    });
    expect(finalizations().length).toBe(before + 1);
    expectOneFinalizationEach();
  });
});

describe('serve killed during the change of a host', () => {
  test.each<{ at: string; command: RegExp; side: Side }>([
    { at: 'before the bundle is given to HAProxy', command: /^set ssl cert/, side: 'before' },
    { at: 'with a transaction pending in HAProxy', command: /^set ssl cert/, side: 'after' },
    { at: 'between file and memory', command: /^commit ssl cert/, side: 'before' },
    { at: 'before the answer to the commit', command: /^commit ssl cert/, side: 'after' },
  ])('$at: the next start brings the host in step', async ({ command, side }) => {
    const before = acme.passed.filter(({ path }) => path === '/order-plz').length;
    await whileWatched(async () => {
      await killedAt(haproxy.hold(command, side));
    });
    expect(acme.passed.filter(({ path }) => path === '/order-plz').length).toBe(before + 1);
  });
});

test('over all these kills the account was registered once', () => {
  const registrations = acme.passed.filter(({ path }) => path === '/sign-me-up');
  expect(registrations.filter(({ status }) => status === 201)).toHaveLength(1);
  expect(registrations.length).toBeGreaterThan(5);
  const urls = registrations.map(({ location }) => location).filter((url) => url !== undefined);
  expect(new Set(urls).size).toBe(1);
});
