import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Status, Summary } from '../../src/domain/status.ts';
import { type AcmeGate, startAcmeGate } from '../support/acme-gate.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import { servedTo } from '../support/haproxy-cli.ts';
import { SEEN_AT } from '../support/kacme.ts';
import { type LabKacme, type LabOptions, labKacme } from '../support/lab-kacme.ts';
import { giveTo } from '../support/ownership.ts';
import { selfSigned, testCa } from '../support/pem.ts';
import { labAccount } from '../support/programs.ts';

const NAME = 'site.test';
const RSA = 'rsa.pem';
const { certPath, certDirectory } = haproxyPaths(SEEN_AT);
/** ECDSA where HAProxy's first bundle lies, RSA where its second one does. */
const dual = (key: readonly string[]) => ({
  certificates: { site: { key } },
  deployments: [
    { certificate: 'site', pool: 'lb', path: { ecdsa: certPath, rsa: join(certDirectory, RSA) } },
  ],
});

async function start(options: LabOptions): Promise<LabKacme> {
  const lab = await labKacme({ ...options, haproxy: { moreBundles: [RSA], ...options.haproxy } });
  onTestFinished(() => lab.close());
  return lab;
}

/** What each host shows to a client that knows the one family only, and to one that knows the other. */
async function shown({ fleet }: LabKacme) {
  const to = (family: 'ecdsa' | 'rsa') =>
    Promise.all(
      fleet.hosts.map(({ haproxy: { address, tlsPort } }) => servedTo(family, address, tlsPort, NAME)),
    );
  return { ecdsa: await to('ecdsa'), rsa: await to('rsa') };
}

/** The active bundles of both halves, as often as there are hosts. */
function held(certificates: Status['certificates'], { fleet }: LabKacme) {
  const of = (family: string) =>
    fleet.hosts.map(() => certificates.find(({ key }) => key.startsWith(family))?.fingerprint256);
  return { ecdsa: of('ecdsa'), rsa: of('rsa') };
}

const challengesAnswered = ({ passed }: AcmeGate) =>
  passed.filter(({ method, path }) => method === 'POST' && /chal/i.test(path)).length;

test('each client is shown the certificate that it can use, from the bootstrap on', async () => {
  const lab = await start({ hosts: 2, pebble: { reuseAuthorizations: 100 } });
  const { kacme, fleet } = lab;
  const gate = await startAcmeGate(lab.pebble);
  onTestFinished(gate.close);
  const throughGate = { issuers: { pebble: { directory: gate.directoryUrl, caFile: gate.caFile } } };
  await kacme.overlay({ ...dual(['ecdsa-p256', 'rsa-2048']), ...throughGate });

  // From nothing: both files are there, HAProxy starts with them.
  expect(await kacme.run('bootstrap')).toMatchObject({ status: 0 });
  await Promise.all(fleet.hosts.map(({ haproxy }) => haproxy.start()));
  const bootstrapped = await kacme.status();
  expect(bootstrapped.certificates).toMatchObject([
    { name: 'site', key: 'ecdsa-p256', state: 'self-signed' },
    { name: 'site-rsa', key: 'rsa-2048', state: 'self-signed' },
  ]);
  expect(await shown(lab)).toEqual(held(bootstrapped.certificates, lab));

  await kacme.serve();
  const issued = (await kacme.settled()).certificates;
  expect(await shown(lab)).toEqual(held(issued, lab));
  expect(new Set(Object.values(held(issued, lab)).flat()).size).toBe(2);
  // The second order found the name authorized.
  expect(gate.passed.filter(({ path }) => /order-plz/.test(path))).toHaveLength(2);
  expect(challengesAnswered(gate)).toBe(1);

  // One half is renewed by itself.
  const renewed = await kacme.run('renew', 'site-rsa', '--force', '--json');
  expect(renewed).toMatchObject({ status: 0 });
  expect(JSON.parse(renewed.stdout)).toMatchObject({ certificates: [{ certificate: 'site-rsa' }] });
  const after = (await kacme.settled()).certificates;
  expect(held(after, lab).ecdsa).toEqual(held(issued, lab).ecdsa);
  expect(held(after, lab).rsa).not.toEqual(held(issued, lab).rsa);
  expect(await shown(lab)).toEqual(held(after, lab));

  // Back to the RSA bundle before: its fingerprint names the half.
  const [, rsa] = issued;
  const rolledBack = await kacme.run('rollback', 'site', '--to', rsa?.fingerprint256 ?? '', '--json');
  expect(rolledBack).toMatchObject({ status: 0 });
  expect((JSON.parse(rolledBack.stdout) as Summary).certificates).toMatchObject([
    { certificate: 'site-rsa', action: 'rolled back' },
  ]);
  expect(await shown(lab)).toEqual(held(issued, lab));

  const planned = await kacme.run('renew', 'site', '--force', '--dry-run', '--json');
  expect((JSON.parse(planned.stdout) as Summary).certificates).toMatchObject([
    { certificate: 'site', action: 'planned' },
    { certificate: 'site-rsa', action: 'planned' },
  ]);
  expect((await kacme.run('status')).stdout).toMatch(/^site-rsa +rsa-2048 +valid/m);
});

test('a half is repaired by itself, and a foreign certificate in its place is left alone', async () => {
  const lab = await start({
    bundlePem: selfSigned(NAME).bundlePem,
    haproxy: { certificates: { [RSA]: selfSigned(NAME, { keyType: 'rsa-2048' }).bundlePem } },
    overlay: dual(['ecdsa-p256', 'rsa-2048']),
  });
  const { kacme } = lab;
  const [host] = lab.fleet.hosts;
  if (host === undefined) throw new Error('the lab has no host');
  await kacme.serve();
  const before = held((await kacme.settled()).certificates, lab);

  const file = join(host.haproxy.certDirectory, RSA);
  const intact = await readFile(file);
  await rm(file);
  const restored = async () => intact.equals(await readFile(file).catch(() => Buffer.alloc(0)));
  await eventually('the RSA half is there again', restored, { timeoutMs: 30_000 });

  await host.sshd.stop();
  await host.haproxy.stop();
  const foreign = testCa().issue([NAME], { keyType: 'rsa-2048' });
  await writeFile(file, foreign.bundlePem, { mode: 0o600 });
  await giveTo(labAccount(), file);
  await host.haproxy.start();
  await host.sshd.start();
  const places = async () => (await kacme.status()).hosts.flatMap(({ places }) => places);
  const reported = await eventually('the foreign one is reported', async () => {
    const seen = await places();
    return seen.some(({ state }) => state === 'foreign') && seen;
  });
  expect(reported).toMatchObject([
    { certificate: 'site', state: 'in sync' },
    { certificate: 'site-rsa', state: 'foreign' },
  ]);
  expect(await shown(lab)).toEqual({ ecdsa: before.ecdsa, rsa: [foreign.fingerprint256] });
});

test('a certificate keeps its bundle when it becomes dual and single again', async () => {
  const lab = await start({
    bundlePem: selfSigned(NAME).bundlePem,
    haproxy: { certificates: { [RSA]: selfSigned(NAME, { keyType: 'rsa-2048' }).bundlePem } },
  });
  const { kacme } = lab;
  const service = await kacme.serve();
  const single = (await kacme.settled()).certificates;
  const reconfigure = async (config: Readonly<Record<string, unknown>>) => {
    await kacme.overlay(config);
    expect(await kacme.run('reload-config')).toMatchObject({ status: 0 });
    return (await kacme.settled()).certificates;
  };

  const both = await reconfigure(dual(['ecdsa-p256', 'rsa-2048']));
  expect(both).toMatchObject([
    { name: 'site', key: 'ecdsa-p256', fingerprint256: single[0]?.fingerprint256 },
    { name: 'site-rsa', key: 'rsa-2048' },
  ]);
  expect(await reconfigure({})).toMatchObject([{ fingerprint256: single[0]?.fingerprint256 }]);
  const bothAgain = await reconfigure(dual(['ecdsa-p256', 'rsa-2048']));
  expect(held(bothAgain, lab)).toEqual(held(both, lab));

  // Listed the other way round, the name goes to the other family: what it holds serves nobody there.
  const turned = await reconfigure(dual(['rsa-2048', 'ecdsa-p256']));
  expect(turned).toMatchObject([
    { name: 'site', key: 'rsa-2048' },
    { name: 'site-ecdsa', key: 'ecdsa-p256' },
  ]);
  expect(turned[0]?.fingerprint256).not.toBe(single[0]?.fingerprint256);
  expect(await shown(lab)).toEqual(held(turned, lab));
  await service.logged('renewal decided', {
    certificate: 'site',
    reason: 'holds an ECDSA key as the RSA half of a dual certificate',
  });
  expect(service.log().filter(({ msg }) => msg === 'rollout halted')).toEqual([]);
});

test('a pair that was there before kacme is adopted, each half by its key', async () => {
  const ca = testCa('CA of before').intermediate('Issuing CA of before');
  const ecdsa = ca.issue([NAME]);
  const rsa = ca.issue([NAME], { keyType: 'rsa-2048', notAfter: new Date(Date.now() + 200 * 86_400_000) });
  const lab = await start({
    bundlePem: ecdsa.bundlePem,
    haproxy: { certificates: { [RSA]: rsa.bundlePem } },
    overlay: dual(['ecdsa-p256', 'rsa-2048']),
  });
  const adopted = await lab.kacme.run('adopt', '--from', 'hosts', '--json');
  expect(adopted).toMatchObject({ status: 0 });
  expect((JSON.parse(adopted.stdout) as Summary).places).toMatchObject([
    { certificate: 'site', action: 'left', inSync: true },
    { certificate: 'site-rsa', action: 'left', inSync: true },
  ]);
  const { certificates } = await lab.kacme.settled();
  expect(held(certificates, lab)).toEqual({ ecdsa: [ecdsa.fingerprint256], rsa: [rsa.fingerprint256] });
  expect(await shown(lab)).toEqual(held(certificates, lab));
});
