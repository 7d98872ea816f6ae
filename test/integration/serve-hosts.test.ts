import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { PlaceStatus, Summary } from '../../src/domain/status.ts';
import { readBundlePem } from '../../src/domain/x509.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { SEEN_AT, type TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { scrape } from '../support/metrics.ts';
import { giveTo } from '../support/ownership.ts';
import { selfSigned, testCa } from '../support/pem.ts';
import { labAccount } from '../support/programs.ts';
import { startTlsLoad } from '../support/tls-load.ts';

const NAME = 'site.test';
/** Promise 4: a host converges within this time of being reachable again. */
const CONVERGES_WITHIN_MS = 30_000;

let lab: LabKacme;
let service: TestService;

beforeAll(async () => {
  lab = await labKacme({ hosts: 3, bundlePem: selfSigned(NAME).bundlePem });
  service = await lab.kacme.serve();
  await lab.kacme.settled();
});
afterAll(() => lab?.close());

/** The host that no challenge goes through. */
function lastHost(): TestHost {
  const host = lab.fleet.hosts.at(-1);
  if (host === undefined) throw new Error('the lab has no host');
  return host;
}

const servedBy = (host: TestHost) => host.haproxy.servedFingerprint256(NAME);

async function activeFingerprint(): Promise<string | undefined> {
  return (await lab.kacme.status()).certificates[0]?.fingerprint256;
}

/** What lies at the host's path, by its leaf; undefined when HAProxy could not load it. */
async function leafInFile({ certPath }: TestHost): Promise<string | undefined> {
  const judged = readBundlePem(await readFile(certPath, 'utf8'));
  return judged.state === 'loadable' ? judged.facts.fingerprint256 : undefined;
}

async function placeOn(host: TestHost): Promise<PlaceStatus | undefined> {
  const { hosts } = await lab.kacme.status();
  return hosts.find(({ host: name }) => name === host.address)?.places[0];
}

async function inStep(host: TestHost, fingerprint: string | undefined): Promise<void> {
  expect(fingerprint).toBeDefined();
  const repaired = async () =>
    (await leafInFile(host)) === fingerprint && (await servedBy(host)) === fingerprint;
  await eventually(`${host.address} has the bundle`, repaired, { timeoutMs: CONVERGES_WITHIN_MS });
  expect(await readFile(host.certPath)).toEqual(await readFile(lab.fleet.hosts[0]?.certPath ?? ''));
}

/** A host without kacme's eye on it: HAProxy comes back with `pem` in its file, as if it were another machine. */
async function restartUnseenWith(host: TestHost, pem: string): Promise<void> {
  await host.sshd.stop();
  await host.haproxy.stop();
  await writeFile(host.certPath, pem, { mode: 0o600 });
  await giveTo(labAccount(), host.certPath);
  await host.haproxy.start();
}

describe('a host that was away', () => {
  test('is reported by the renewal, and brought in step by itself when it returns', async () => {
    const host = lastHost();
    const before = await activeFingerprint();
    await host.sshd.stop();
    await host.haproxy.stop();
    const renew = await lab.kacme.run('renew', '--force', '--json');

    expect(renew).toMatchObject({ status: 3 });
    const summary = JSON.parse(renew.stdout) as Summary;
    expect(summary).toMatchObject({ outcome: 'partly', certificates: [{ action: 'issued' }] });
    const failed = summary.places.filter(({ inSync }) => !inSync);
    expect(failed).toMatchObject([
      { host: host.address, action: 'failed', failure: { code: 'ERR_HOST_UNREACHABLE' } },
    ]);
    const issued = await activeFingerprint();
    expect(issued).not.toBe(before);
    for (const other of lab.fleet.hosts.slice(0, -1)) expect(await servedBy(other)).toBe(issued);
    expect(await placeOn(host)).toMatchObject({ state: 'unreachable' });
    const metrics = await scrape(service.operations);
    expect(metrics.value('kacme_host_reachable', { host: host.address })).toBe(0);
    expect(metrics.value('kacme_place_in_sync', { host: host.address })).toBe(0);

    await host.haproxy.start();
    expect(await servedBy(host)).toBe(before);
    await host.sshd.start();
    await inStep(host, issued);
    await service.logged('host is back', { host: host.address });
  });

  test('is repaired when it comes back reinstalled, with a self-signed certificate', async () => {
    const host = lastHost();
    const reinstalled = selfSigned(NAME);
    await restartUnseenWith(host, reinstalled.bundlePem);
    expect(await servedBy(host)).toBe(reinstalled.fingerprint256);
    await host.sshd.start();
    await inStep(host, await activeFingerprint());
  });

  test('is repaired when HAProxy was restarted with a bundle of before', async () => {
    const host = lastHost();
    const old = await readFile(host.certPath, 'utf8');
    expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
    await restartUnseenWith(host, old);
    const issued = await activeFingerprint();
    expect(await servedBy(host)).not.toBe(issued);
    await host.sshd.start();
    await inStep(host, issued);
  });
});

describe('a foreign certificate', () => {
  test('is left alone and reported, until the deployment says takeOver', async () => {
    const host = lastHost();
    const { kacme } = lab;
    const issued = await activeFingerprint();
    const foreign = testCa().issue([NAME]);
    await restartUnseenWith(host, foreign.bundlePem);
    await host.sshd.start();
    onTestFinished(() => kacme.overlay({}));

    const reported = await eventually('it is reported', async () => {
      const place = await placeOn(host);
      return place?.state === 'foreign' && place;
    });
    expect(reported.reason).toContain('takeOver');
    // A renewal passes it by too.
    expect(await kacme.run('renew', '--force')).toMatchObject({ status: 3 });
    expect(await placeOn(host)).toMatchObject({ state: 'foreign' });
    expect(await readFile(host.certPath, 'utf8')).toBe(foreign.bundlePem);
    expect(await servedBy(host)).toBe(foreign.fingerprint256);
    expect(issued).not.toBe(await activeFingerprint());

    const deployment = { certificate: 'site', pool: 'lb', path: haproxyPaths(SEEN_AT).certPath };
    await kacme.overlay({ deployments: [{ ...deployment, takeOver: true }] });
    service.signal('SIGHUP');
    await inStep(host, await activeFingerprint());
    await kacme.settled();
  });
});

describe('a renewal under load', () => {
  test.each([
    { how: 'on new connections', keepAlive: false },
    { how: 'on connections kept alive', keepAlive: true },
  ])('fails no request $how', async ({ keepAlive }) => {
    const targets = lab.fleet.hosts.map(({ address, haproxy }) => ({
      address,
      port: haproxy.tlsPort,
      servername: NAME,
    }));
    await using load = startTlsLoad(targets, { workers: 6, keepAlive, pauseMs: 2 });
    await eventually('the load runs', () => load.counts().ok > 30);
    expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
    const after = load.counts().ok;
    await eventually('the load went on', () => load.counts().ok > after + 30);
    const { failed, reasons, leaves } = await load.stop();
    expect({ failed, reasons }).toEqual({ failed: 0, reasons: {} });
    const issued = await activeFingerprint();
    for (const host of lab.fleet.hosts) expect(await servedBy(host)).toBe(issued);
    if (!keepAlive) expect(Object.keys(leaves)).toContain(issued);
  });
});
