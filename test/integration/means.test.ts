import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import { SEEN_AT } from '../support/kacme.ts';
import { type LabKacme, type LabOptions, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

const { certDirectory, socketPath, masterSocketPath } = haproxyPaths(SEEN_AT);
const PATH = join(certDirectory, 'site.pem');
const LIST = join(certDirectory, 'crt-list.txt');

const bothSockets = { haproxy: { socket: socketPath, masterSocket: masterSocketPath } };

/** Two hosts that run with another certificate than the one that kacme is to bring. */
async function labWithout(
  deployment: object,
  options: Pick<LabOptions, 'haproxy' | 'overlay'>,
): Promise<LabKacme> {
  const lab = await labKacme({
    hosts: 2,
    bundlePem: selfSigned('other.test').bundlePem,
    ...options,
    overlay: {
      deployments: [{ certificate: 'site', pool: 'lb', path: PATH, ...deployment }],
      ...options.overlay,
    },
  });
  onTestFinished(lab.close);
  return lab;
}

async function summaryOf(lab: LabKacme, command: string): Promise<Summary & { status: number }> {
  const { status, stdout } = await lab.kacme.run(command, '--json');
  return { ...(JSON.parse(stdout) as Summary), status: status ?? -1 };
}

test('a certificate of a crt-list is added to running hosts by the first command, and is in sync', async () => {
  const lab = await labWithout(
    { crtList: LIST },
    { haproxy: { certificates: { 'crt-list.txt': '# none yet\n' }, bindArguments: `crt-list ${LIST}` } },
  );
  const before = lab.fleet.hosts.map(({ haproxy }) => haproxy.pids());

  const { status, places } = await summaryOf(lab, 'bootstrap');

  expect({ status, places }).toMatchObject({
    status: 0,
    places: [
      { action: 'added', inSync: true },
      { action: 'added', inSync: true },
    ],
  });
  expect(lab.fleet.hosts.map(({ haproxy }) => haproxy.pids())).toEqual(before);
  for (const { haproxy } of lab.fleet.hosts) {
    expect(await readFile(join(haproxy.certDirectory, 'crt-list.txt'), 'utf8')).toBe(`# none yet\n${PATH}\n`);
  }
  expect((await summaryOf(lab, 'distribute')).places).toMatchObject([{ action: 'left' }, { action: 'left' }]);
});

test('a path that a changed configuration names is loaded by a reload, and not again and again before that', async () => {
  const lab = await labWithout({}, { overlay: { pools: { lb: bothSockets } } });
  await using service = await lab.kacme.serve();
  const waiting = async () => {
    const { hosts } = await lab.kacme.status();
    const reasons = hosts.map(({ places: [place] }) => place?.reason ?? '');
    const paused = reasons.every((reason) => /the last change failed, the next attempt is at/.test(reason));
    return paused ? hosts : undefined;
  };
  const paused = await eventually('both hosts wait with the next reload', waiting, { timeoutMs: 25_000 });
  const workers = lab.fleet.hosts.map(({ haproxy }) => haproxy.pids()[1]);
  const later = await eventually('both hosts were looked at again', async () => {
    const hosts = await waiting();
    const isLater = hosts?.every(({ observedAt }, i) => observedAt !== paused[i]?.observedAt);
    return isLater === true ? hosts : undefined;
  });
  expect(later.flatMap(({ places }) => places.map(({ state }) => state))).toEqual([
    'out of sync',
    'out of sync',
  ]);
  expect(lab.fleet.hosts.map(({ haproxy }) => haproxy.pids()[1])).toEqual(workers);

  for (const { haproxy } of lab.fleet.hosts) {
    const text = await readFile(haproxy.configPath, 'utf8');
    await writeFile(haproxy.configPath, text.replace('ssl crt ', `ssl crt ${PATH} crt `));
  }
  const then = await summaryOf(lab, 'distribute');
  expect(then.places.map(({ failure }) => failure?.message)).toEqual([undefined, undefined]);
  expect(then).toMatchObject({
    status: 0,
    places: [
      { action: 'reloaded', inSync: true },
      { action: 'reloaded', inSync: true },
    ],
  });
  const reason = expect.stringContaining('reload because HAProxy has no certificate loaded from');
  expect(await service.logged('change decided')).toMatchObject({ reason });
}, 60_000);

test('outside the maintenance window nothing is reloaded, the file is there all the same, and status says so', async () => {
  const today = new Date().getUTCDay();
  const dayAfterNext = (['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const)[(today + 2) % 7];
  const maintenanceWindow = { days: [dayAfterNext], from: '02:00', to: '04:00' };
  const lab = await labWithout({}, { overlay: { pools: { lb: { ...bothSockets, maintenanceWindow } } } });
  const workers = lab.fleet.hosts.map(({ haproxy }) => haproxy.pids());

  const { places } = await summaryOf(lab, 'bootstrap');

  const reason = expect.stringMatching(/waits for the maintenance window until .*T02:00:00/);
  expect(places).toMatchObject([
    { action: 'installed', inSync: false, reason },
    { action: 'installed', reason },
  ]);
  expect(lab.fleet.hosts.map(({ haproxy }) => haproxy.pids())).toEqual(workers);
});
