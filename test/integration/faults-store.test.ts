import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import type { TestKacme } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

/** Two certificates, of which the first is deployed; bootstrap is done. */
async function bootstrapped(): Promise<LabKacme> {
  const made = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    certificates: { site: ['site.test'], shop: ['shop.test'] },
  });
  onTestFinished(made.close);
  expect(await made.kacme.run('bootstrap')).toMatchObject({ status: 0 });
  return made;
}

/** Cuts a file of the store short, as a bad disk would; resolves to its path and to how it can be repaired. */
async function damage({ storePath }: TestKacme, below: string) {
  const names = await readdir(storePath, { recursive: true, withFileTypes: true });
  const file = names.find(
    (name) => name.isFile() && join(name.parentPath, name.name).startsWith(join(storePath, below)),
  );
  if (file === undefined) throw new Error(`the store has no ${below}`);
  const path = join(file.parentPath, file.name);
  const before = await readFile(path, 'utf8');
  const cut = before.slice(0, before.length / 2);
  await writeFile(path, cut);
  return {
    path,
    repair: () => writeFile(path, before),
    isAsItWas: async () => (await readFile(path, 'utf8')) === cut,
  };
}

/** Copies in the store's `corrupt` directory. */
const keptAside = ({ storePath }: TestKacme) => readdir(join(storePath, 'corrupt'));

test('a damaged certificate record is named and kept; the other certificate is renewed and distributed', async () => {
  const { kacme, served } = await bootstrapped();
  const [before] = await served();
  const { path, repair, isAsItWas } = await damage(kacme, 'data/certificate/shop');

  const bootstrap = await kacme.run('bootstrap', '--json');
  expect(bootstrap.status).toBe(1);
  const { certificates, places } = JSON.parse(bootstrap.stdout) as Summary;
  expect(certificates).toMatchObject([
    { certificate: 'site', action: 'kept' },
    { certificate: 'shop', action: 'failed', failure: { code: 'ERR_STORE_CORRUPT' } },
  ]);
  expect(certificates[1]?.failure?.message).toContain(path);
  expect(certificates[1]?.failure?.remedy).toMatch(/back-up/);
  expect(places).toMatchObject([{ certificate: 'site', inSync: true }]);
  expect(await keptAside(kacme)).toHaveLength(1);

  const service = await kacme.serve();
  await service.logged('issuance finished', { certificate: 'site' });
  await service.logged('a record in the store is damaged', { path });
  await service.logged('place state changed', { certificate: 'site', state: 'in sync' });
  expect((await kacme.status()).certificates).toMatchObject([
    { name: 'site', state: 'valid' },
    { name: 'shop', state: 'unreadable', lastFailure: { code: 'ERR_STORE_CORRUPT' } },
  ]);
  const { status, stdout } = await kacme.run('status');
  expect(status).toBe(3);
  expect(stdout).toMatch(
    /certificate shop: ERR_STORE_CORRUPT\n {2}.*damaged: \S+shop.*\n {2}what to do: restore/,
  );
  expect(await served()).not.toEqual([before]);
  await service.stop();

  expect(await isAsItWas()).toBe(true);
  await repair();
  expect(await kacme.run('bootstrap')).toMatchObject({ status: 0 });
});

test('a damaged account record is named and kept; no other account is registered in its place', async () => {
  const { kacme, served } = await bootstrapped();
  const [before] = await served();
  const { path, isAsItWas, repair } = await damage(kacme, 'data/account/');
  for (const command of ['bootstrap', 'renew']) {
    const { status, stdout } = await kacme.run(command);
    expect(status).toBe(1);
    expect(stdout).toContain(`ERR_STORE_CORRUPT`);
    expect(stdout).toContain(path);
    expect(stdout).toMatch(/what to do: restore the file from a back-up/);
  }
  expect(await isAsItWas()).toBe(true);
  expect(await keptAside(kacme)).toHaveLength(1);
  expect(await served()).toEqual([before]);
  await repair();
  expect(await kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });
});

test('a damaged journal is named and kept, and nothing is changed until it is repaired', async () => {
  const { kacme, served } = await bootstrapped();
  const [before] = await served();
  const { path, isAsItWas, repair } = await damage(kacme, 'journal');
  for (const command of ['bootstrap', 'renew', 'distribute']) {
    const { status, stdout, stderr } = await kacme.run(command);
    expect(status).toBe(1);
    expect(stdout + stderr).toContain(path);
    expect(stdout + stderr).toMatch(/what to do: stop kacme and restore the whole directory from a back-up/);
  }
  const { status, stdout, stderr } = await kacme.run('serve');
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(
    /\nkacme: cannot read the store \S+, damaged: \S+journal: .*\n {2}what to do: stop kacme/,
  );
  expect(await isAsItWas()).toBe(true);
  expect(await keptAside(kacme)).toHaveLength(1);
  expect(await served()).toEqual([before]);
  await repair();
  expect(await kacme.run('bootstrap')).toMatchObject({ status: 0 });
});
