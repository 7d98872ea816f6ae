import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { CertificateStatus, Summary } from '../../src/domain/status.ts';
import type { CaFault } from '../support/faulty-ca.ts';
import type { TestKacme } from '../support/kacme.ts';
import { loopbackAddress } from '../support/net.ts';
import { NEW_ORDER, ordersAt, twoIssuers } from '../support/two-issuers.ts';

const outOfOrder: CaFault = (_, response) => response.writeHead(500).end('out of order');
const FIRST = 'staging is asked first, as a rehearsal';

/** The first CA is the real one; the other is where it is rehearsed. What is wrong is found by the CA alone. */
async function rehearsedLab() {
  const lab = await twoIssuers();
  const { pebble, second } = lab.issuers;
  const overlay = {
    issuers: { pebble: { ...pebble, stagingFirst: 'staging' }, staging: second },
    challenge: { selfCheck: 'off' },
  };
  await lab.kacme.overlay(overlay);
  return { ...lab, overlay, real: lab.first, staging: lab.second, stagingPebble: lab.other };
}

async function site(kacme: TestKacme): Promise<CertificateStatus | undefined> {
  return (await kacme.status()).certificates[0];
}

const reasonOf = (stdout: string) => (JSON.parse(stdout) as Summary).certificates[0]?.reason;

test('a wrong set-up never reaches the real CA, and is found at staging alone', async () => {
  const { kacme, real, staging, stagingPebble, fleet } = await rehearsedLab();
  // Nothing answers there.
  await stagingPebble.setAddresses('site.test', [loopbackAddress()]);
  const service = await kacme.serve();
  await service.logged('issuance failed', { issuer: 'staging', rehearsalFor: 'pebble' });
  await service.logged('renewal decided', { issuer: 'pebble', action: 'wait' });
  for (const _ of ['second', 'third', 'fourth'])
    expect(await kacme.run('renew', '--force')).toMatchObject({ status: 1 });
  expect(ordersAt(staging)).toBe(4);
  expect(real.requests).toEqual([]);
  const failing = await site(kacme);
  expect(failing).toMatchObject({
    state: 'self-signed',
    next: expect.stringContaining(FIRST),
    lastFailure: { code: 'ERR_ACME_AUTHORIZATION', failures: 4 },
  });

  await stagingPebble.setAddresses('site.test', [fleet.hosts[0]?.address ?? '']);
  const renewal = await kacme.run('renew', '--force', '--json');
  expect(renewal).toMatchObject({ status: 0 });
  expect(reasonOf(renewal.stdout)).toMatch(/overriding the back-off of staging until 2\d{3}-/);
  expect(ordersAt(real)).toBe(1);
  const { certificates } = await kacme.settled();
  expect(certificates).toMatchObject([{ issuer: 'pebble', generation: 2 }]);
});

test('a right set-up is rehearsed once: not after a restart, and again for other names', async () => {
  const { kacme, overlay, real, staging, served } = await rehearsedLab();
  const dry = await kacme.run('renew', '--dry-run', '--json');
  expect(reasonOf(dry.stdout)).toContain(FIRST);
  const { stdout: plan } = await kacme.run('plan');
  expect(plan).toContain('site is rehearsed at staging before pebble is asked\n');
  expect([...real.requests, ...staging.requests]).toEqual([]);

  real.failWith(outOfOrder, NEW_ORDER);
  const service = await kacme.serve();
  await service.logged('issuance finished', { issuer: 'staging', rehearsalFor: 'pebble' });
  await service.logged('issuance failed', { issuer: 'pebble' });
  // Nothing of the staging certificate is left, or ever came to a host.
  expect(await site(kacme)).toMatchObject({ state: 'self-signed', generation: 1 });
  const stored = await readdir(kacme.storePath, { recursive: true });
  const ofSite = stored.filter((path) => /(?:order|bundle|rehearsal).+site.+/.test(path));
  expect(ofSite.sort()).toEqual([
    expect.stringMatching(/bundle.+site.+/),
    expect.stringMatching(/rehearsal.+site.+pebble/),
  ]);
  await service.stop();

  real.failWith(undefined);
  const restarted = await kacme.serve();
  expect(await kacme.run('renew', '--force')).toMatchObject({ status: 0 });
  expect(ordersAt(staging)).toBe(1);
  const { certificates } = await kacme.settled();
  expect(certificates).toMatchObject([{ issuer: 'pebble', generation: 2 }]);
  expect(await served()).toEqual([certificates[0]?.fingerprint256]);

  const more = { site: { identifiers: ['site.test', 'more.test'] } };
  await kacme.overlay({ ...overlay, certificates: more });
  expect(await kacme.run('reload-config')).toMatchObject({ status: 0 });
  await restarted.logged('bundle activated', { certificate: 'site', generation: 3 });
  expect(ordersAt(staging)).toBe(2);
  expect(await site(kacme)).toMatchObject({ issuer: 'pebble', generation: 3 });
});
