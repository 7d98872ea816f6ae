import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import { SEEN_AT } from '../support/kacme.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { scrape } from '../support/metrics.ts';
import { selfSigned } from '../support/pem.ts';

const PATHS = haproxyPaths(SEEN_AT);

/** Two certificates on one host, in service. */
async function twoCertificates() {
  const lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    haproxy: { moreBundles: ['more.pem'], certificates: { 'more.pem': selfSigned('more.test').bundlePem } },
    certificates: { site: ['site.test'], more: ['more.test'] },
  });
  onTestFinished(lab.close);
  await lab.kacme.overlay({
    deployments: [
      { certificate: 'site', pool: 'lb', path: PATHS.certPath },
      { certificate: 'more', pool: 'lb', path: join(PATHS.certDirectory, 'more.pem') },
    ],
  });
  const service = await lab.kacme.serve();
  await lab.kacme.settled();
  return { lab, service };
}

async function bundleFileOf(storePath: string, certificate: string, id: string): Promise<string> {
  const directory = join(storePath, 'data', 'bundle', certificate);
  const name = (await readdir(directory)).find((file) => file.startsWith(id));
  if (name === undefined) throw new Error(`no file of ${id} in ${directory}`);
  return join(directory, name);
}

test('a damaged bundle record is named, kept aside and not overwritten; the other certificates go on', async () => {
  const { lab, service } = await twoCertificates();
  const { kacme, fleet } = lab;
  const morePath = join(fleet.hosts[0]?.haproxy.certDirectory ?? '', 'more.pem');
  const active = (await kacme.status()).certificates.find(({ name }) => name === 'more')?.fingerprint256;
  const onHost = await readFile(morePath);
  await service.stop();
  const path = await bundleFileOf(kacme.storePath, 'more', active ?? '');
  const intact = await readFile(path, 'utf8');
  const damaged = intact.replace('BEGIN', 'BEGUN');
  await writeFile(path, damaged);

  const restarted = await kacme.serve();
  await restarted.logged('a record in the store is damaged', { path });
  // Nothing of the other one waits for it: renewed and installed on the same host.
  const renewSite = await kacme.run('renew', 'site', '--force', '--json');
  expect(JSON.parse(renewSite.stdout)).toMatchObject({
    certificates: [{ certificate: 'site', action: 'issued' }],
  });
  const status = await eventually('site is in sync', async () => {
    const now = await kacme.status();
    return now.hosts[0]?.places[0]?.state === 'in sync' && now;
  });
  const [site, more] = status.certificates;
  expect(site).toMatchObject({ name: 'site', state: 'valid', generation: 3 });
  expect(await lab.served('site.test')).toEqual([site?.fingerprint256]);
  expect(more).toMatchObject({
    name: 'more',
    state: 'unreadable',
    next: 'nothing until the store is repaired; hosts keep what they hold',
    lastFailure: { code: 'ERR_STORE_CORRUPT', message: expect.stringContaining(path) },
  });
  expect(status.hosts[0]?.places[1]).toMatchObject({ failure: { code: 'ERR_STORE_CORRUPT' } });

  const renew = await kacme.run('renew', 'more', '--force');
  expect(renew.status).toBe(1);
  expect(`${renew.stdout}${renew.stderr}`).toContain(path);
  expect(await readFile(path, 'utf8')).toBe(damaged);
  const copies = await readdir(join(kacme.storePath, 'corrupt'));
  const kept = await Promise.all(
    copies.map((name) => readFile(join(kacme.storePath, 'corrupt', name), 'utf8')),
  );
  expect(kept).toContain(damaged);
  expect(await readFile(morePath)).toEqual(onHost);
  expect(await lab.served('more.test')).toEqual([active]);
  const ready = await fetch(`http://${restarted.operations}/readyz`);
  expect(ready.status).toBe(503);
  expect(await ready.text()).toContain('certificate more is unreadable');
  expect((await scrape(restarted.operations)).value('kacme_place_in_sync', { certificate: 'site' })).toBe(1);

  await restarted.stop();
  await writeFile(path, intact);
  await kacme.serve();
  await kacme.settled();
});
