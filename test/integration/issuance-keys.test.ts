import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { publicKeyHash } from '../../src/domain/x509.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';

let lab: LabKacme;
beforeAll(async () => {
  lab = await labKacme();
});
afterAll(() => lab.close());

const onDisk = () => readFile(lab.fleet.hosts[0]?.haproxy.certPath ?? '', 'utf8');

/** Has a new certificate made; resolves to the hash of its public key. */
async function renewed(certificate: Readonly<Record<string, unknown>>): Promise<string> {
  await lab.kacme.overlay({ certificates: { site: certificate } });
  const before = await onDisk();
  expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
  const bundle = await onDisk();
  expect(bundle).not.toBe(before);
  return publicKeyHash(bundle);
}

const rsa = { key: 'rsa-2048', reuseKey: true };
const ecdsa = { key: 'ecdsa-p256', reuseKey: true };

test('the key of bootstrap is not kept, that of a CA is, from one renewal to the next', async () => {
  await lab.kacme.overlay({ certificates: { site: rsa } });
  expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
  const bootstrapped = publicKeyHash(await onDisk());
  await lab.fleet.hosts[0]?.haproxy.start();

  const first = await renewed(rsa);
  expect(first).not.toBe(bootstrapped);
  expect(await renewed(rsa)).toBe(first);
});

test('another type of key is another key, which is kept in turn', async () => {
  const before = publicKeyHash(await onDisk());
  const first = await renewed(ecdsa);
  expect(first).not.toBe(before);
  expect(await renewed(ecdsa)).toBe(first);
});

test('each renewal has a key of its own without the option', async () => {
  const before = publicKeyHash(await onDisk());
  expect(await renewed({ key: 'ecdsa-p256' })).not.toBe(before);
});

test('a key whose certificate is revoked is never certified again, and its bundle never served again', async () => {
  const revoked = await renewed(ecdsa);
  const args = ['revoke', 'site', '--reason', 'keyCompromise', '--replace'];

  expect(await lab.kacme.run(...args)).toMatchObject({ status: 0 });

  const replaced = publicKeyHash(await onDisk());
  expect(replaced).not.toBe(revoked);
  expect(await renewed(ecdsa)).toBe(replaced);
});
