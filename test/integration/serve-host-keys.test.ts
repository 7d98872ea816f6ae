import { appendFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import type { TestHost } from '../support/host.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;
let host: TestHost;
beforeAll(async () => {
  lab = await labKacme({ bundlePem: selfSigned('site.test').bundlePem });
  const [only] = lab.fleet.hosts;
  if (only === undefined) throw new Error('the lab has a host');
  host = only;
});
afterAll(() => lab?.close());

const pinning = (keys: readonly string[]) =>
  keys.map((key) => `[${host.address}]:${host.sshd.port} ${key}\n`).join('');
beforeEach(async () => {
  await writeFile(lab.fleet.knownHostsFile, pinning(await host.sshd.hostPublicKeys()));
});

const connected = () => eventually('kacme is connected', () => host.sshd.pids().length > 1);

test('a host changes its key while kacme serves: pinned side by side, nothing is interrupted', async () => {
  const service = await lab.kacme.serve();
  onTestFinished(() => service.stop());
  await lab.kacme.settled();
  await connected();

  await host.sshd.rotateHostKeys((keys) => appendFile(lab.fleet.knownHostsFile, pinning(keys)));
  await connected();
  await lab.kacme.settled();

  // The old line is taken away afterwards.
  await writeFile(lab.fleet.knownHostsFile, pinning(await host.sshd.hostPublicKeys()));
  await host.sshd.killSessions();
  await connected();
  await lab.kacme.settled();
  expect(service.output()).not.toContain('ERR_HOST_KEY');
});

test('a host that came back with another key is refused until that is pinned, then served at once', async () => {
  const service = await lab.kacme.serve();
  onTestFinished(() => service.stop());
  await lab.kacme.settled();
  await connected();

  await host.sshd.rotateHostKeys();
  const refused = await eventually('it is refused', () =>
    service.log().find((line) => JSON.stringify(line).includes('ERR_HOST_KEY_CHANGED')),
  );
  expect(refused).toMatchObject({ msg: 'host cannot be observed', level: 'warn' });
  const [status] = (await lab.kacme.status()).hosts;
  expect(status).toMatchObject({
    reachable: false,
    places: [{ state: 'failed', failure: { code: 'ERR_HOST_KEY_CHANGED' } }],
  });
  const scan = await lab.kacme.run('hosts', 'scan');
  expect(scan.status).toBe(3);
  const [presented = ''] = await host.sshd.hostPublicKeys();
  expect(scan.stdout).toBe(`# differs from ${lab.fleet.knownHostsFile}:1: ${pinning([presented])}`);

  // Compared, and taken over: without the mark it is the line to pin.
  await appendFile(lab.fleet.knownHostsFile, scan.stdout.replace(/^# .*?: /, ''));
  await service.logged('host is back');
  await lab.kacme.settled();
});
