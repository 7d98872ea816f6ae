import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CertificateStatus, Summary } from '../../src/domain/status.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;

beforeEach(async () => {
  lab = await labKacme({ hosts: 2, bundlePem: selfSigned('site.test').bundlePem });
});
afterEach(() => lab?.close());

async function theCertificate(): Promise<CertificateStatus> {
  const [certificate] = (await lab.kacme.status()).certificates;
  if (certificate === undefined) throw new Error('the lab has no certificate');
  return certificate;
}

const fingerprintNow = async (): Promise<string> => (await theCertificate()).fingerprint256 ?? 'none';

async function rollBack(...args: string[]): Promise<Summary> {
  const { status, stdout, stderr } = await lab.kacme.run('rollback', 'site', '--json', ...args);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return JSON.parse(stdout) as Summary;
}

describe('through the running service', () => {
  test('the bundle before the present one is served by every host, as a new generation that is not renewed at once', async () => {
    const service = await lab.kacme.serve();
    await lab.kacme.settled();
    const first = await theCertificate();
    expect(await lab.kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });
    const second = await fingerprintNow();
    expect(await lab.served()).toEqual([second, second]);

    const summary = await rollBack();

    expect(summary).toMatchObject({
      outcome: 'done',
      certificates: [{ action: 'rolled back' }],
      places: [
        { action: 'swapped', inSync: true },
        { action: 'swapped', inSync: true },
      ],
    });
    expect(await lab.served()).toEqual([first.fingerprint256, first.fingerprint256]);
    const after = await theCertificate();
    expect(after).toMatchObject({
      fingerprint256: first.fingerprint256,
      generation: first.generation + 2,
      renewAtBasis: 'rollback',
      next: expect.stringMatching(/^waits until .*: held after a rollback$/),
    });
    await service.logged('renewal decided', { action: 'wait', reason: 'held after a rollback' });

    expect(await lab.kacme.run('rollback', 'site')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('is newer: name it by its fingerprint'),
    });
    await rollBack('--to', second.slice(0, 12));
    expect(await lab.served()).toEqual([second, second]);
    // The history now holds each bundle once.
    await rollBack('--to', first.fingerprint256 ?? '');
    expect(await fingerprintNow()).toBe(first.fingerprint256);
  });

  test('--force orders a new one in place of what was gone back to', async () => {
    await lab.kacme.serve();
    await lab.kacme.settled();
    await lab.kacme.run('renew', 'site', '--force');
    await rollBack();
    const held = await fingerprintNow();
    expect(await lab.kacme.run('renew', 'site')).toMatchObject({ status: 0 });
    expect(await fingerprintNow()).toBe(held);

    expect(await lab.kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });

    expect(await fingerprintNow()).not.toBe(held);
    expect(await theCertificate()).toMatchObject({ renewAtBasis: 'share of the lifetime' });
  });
});

test('without a service it works directly, and a host that is down makes it partly done until it is back', async () => {
  expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
  const first = await fingerprintNow();
  expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
  const second = await fingerprintNow();
  const [up, down] = lab.fleet.hosts;
  await down?.sshd.stop();

  expect(await lab.kacme.run('rollback', 'site')).toMatchObject({ status: 3 });

  expect(await up?.haproxy.servedFingerprint256('site.test')).toBe(first);
  expect(await down?.haproxy.servedFingerprint256('site.test')).toBe(second);
  await down?.sshd.start();
  expect(await lab.kacme.run('distribute')).toMatchObject({ status: 0 });
  expect(await lab.served()).toEqual([first, first]);
});

test('a certificate that has only its first bundle cannot be rolled back, and nothing changes', async () => {
  expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
  const before = await theCertificate();

  const { status, stdout, stderr } = await lab.kacme.run('rollback', 'site');

  expect({ status, told: `${stdout}${stderr}` }).toEqual({
    status: 1,
    told: expect.stringMatching(/cannot roll site back: .*kacme renew site --force/s),
  });
  expect(await theCertificate()).toMatchObject({
    fingerprint256: before.fingerprint256,
    generation: before.generation,
  });
});
