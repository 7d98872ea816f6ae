import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { selfSigned } from '../support/pem.ts';
import { startTlsLoad } from '../support/tls-load.ts';
import {
  describeEachHaproxy,
  type HaproxyLab,
  type LabOptions,
  type haproxyLab as startLab,
} from './haproxy-fixture.ts';

const LIST = 'certs/crt-list.txt';
const COMMENTED = '# of this deployment\ncerts/first.pem [alpn h2] first.test\n';

/** A HAProxy with a crt-list, and a deployment of a certificate that it does not know yet. */
async function labWithList(haproxyLab: typeof startLab, options: Pick<LabOptions, 'pool'> = {}) {
  const first = selfSigned('first.test');
  const lab = await haproxyLab({
    ...options,
    host: {
      haproxy: {
        certificates: { 'first.pem': first.bundlePem, 'crt-list.txt': COMMENTED },
        bindArguments: `crt-list ${LIST}`,
      },
    },
  });
  const { certDirectory } = lab.host.haproxy;
  const path = join(certDirectory, 'added.pem');
  const file = join(certDirectory, 'crt-list.txt');
  const deployment = { path, file: path, crtList: { path: LIST, file } };
  return {
    ...lab,
    listFile: () => readFile(file, 'utf8'),
    listMode: async () => (await stat(file)).mode & 0o777,
    listed: () => lab.host.haproxy.command(`show ssl crt-list ${LIST}`),
    names: async () => (await readdir(certDirectory)).sort(),
    path,
    look: async () => {
      const whole = { ...lab.deployment, ...deployment };
      const signal = AbortSignal.timeout(5_000);
      return (await lab.haproxy.observe([whole], { signal })).places[path];
    },
    add: (bundle: ReturnType<typeof selfSigned>, servername = 'added.test') =>
      lab.apply(bundle, { means: 'add', listFile: true, deployment, verifyServername: servername }),
  };
}

async function expectAsBefore(lab: Awaited<ReturnType<typeof labWithList>>): Promise<void> {
  expect(await lab.names()).toEqual(['crt-list.txt', 'first.pem', 'haproxy.pem']);
  expect(await lab.listFile()).toBe(COMMENTED);
  expect(await lab.listed()).not.toContain('added.pem');
  expect(await lab.host.haproxy.command('show ssl cert')).not.toContain('added.pem');
}

const pids = ({ host }: Pick<HaproxyLab, 'host'>) => host.haproxy.pids();

describeEachHaproxy((haproxyLab) => {
  test('a certificate that HAProxy does not know is added, and served by its name, without a reload', async () => {
    const lab = await labWithList(haproxyLab);
    const before = pids(lab);
    expect(await lab.look()).toMatchObject({
      file: { state: 'absent' },
      loaded: undefined,
      crtList: { inFile: false, inMemory: 'addable' },
    });

    const next = selfSigned('added.test');
    expect(await lab.add(next)).toEqual({ state: 'verified', handshakes: 4 });

    expect(await lab.host.haproxy.servedFingerprint256('added.test')).toBe(next.fingerprint256);
    expect(await lab.served()).toBe(lab.old.fingerprint256);
    expect(pids(lab)).toEqual(before);
    expect(await lab.listFile()).toBe(`${COMMENTED}${lab.path}\n`);
    expect(await lab.look()).toMatchObject({ crtList: { inFile: true, inMemory: 'listed' } });
    expect(await lab.names()).toEqual(['added.pem', 'crt-list.txt', 'first.pem', 'haproxy.pem']);
  });

  test('a later reload keeps it, and a later swap replaces it, its names included', async () => {
    const lab = await labWithList(haproxyLab);
    await lab.add(selfSigned('added.test'));
    await lab.host.haproxy.reload();
    const next = selfSigned(['added.test', 'another.test']);
    const deployment = { path: lab.path, file: lab.path };
    expect(await lab.apply(next, { deployment, verifyServername: 'another.test' })).toMatchObject({
      state: 'verified',
    });
  });

  test('one that handshakes do not show is taken out of list, memory and files again', async () => {
    const lab = await labWithList(haproxyLab);
    await expect(lab.add(selfSigned('added.test'), 'unknown.test')).rejects.toMatchObject({
      code: 'ERR_HOST_UNVERIFIED',
      reason: expect.stringMatching(
        /does not list it in .* any more, HAProxy has it in memory no more; .*crt-list\.txt holds its previous content again; .*added\.pem was removed again/,
      ),
    });
    await expectAsBefore(lab);
    expect(await lab.add(selfSigned('added.test'))).toMatchObject({ state: 'verified' });
  });

  test('a list that HAProxy does not have changes nothing', async () => {
    const lab = await labWithList(haproxyLab);
    const crtList = { path: 'certs/other.txt', file: join(lab.host.haproxy.certDirectory, 'crt-list.txt') };
    const deployment = { path: lab.path, file: lab.path, crtList };
    await expect(
      lab.apply(selfSigned('added.test'), { means: 'add', listFile: true, deployment }),
    ).rejects.toMatchObject({
      code: 'ERR_HAPROXY_REFUSED',
      remedy: expect.stringContaining('bind ... ssl crt-list certs/other.txt'),
    });
    await expectAsBefore(lab);
  });

  test('what an interrupted addition left is taken up: an empty entry, or one that is not listed', async () => {
    const lab = await labWithList(haproxyLab);
    await lab.host.haproxy.command(`new ssl cert ${lab.path}`);
    expect(await lab.look()).toMatchObject({ loaded: undefined, crtList: { inMemory: 'addable' } });
    const next = selfSigned('added.test');
    expect(await lab.add(next)).toMatchObject({ state: 'verified' });

    await lab.host.haproxy.command(`del ssl crt-list ${LIST} ${lab.path}`);
    expect(await lab.look()).toMatchObject({ crtList: { inFile: true, inMemory: 'addable' } });
    expect(await lab.add(next)).toMatchObject({ state: 'verified' });
    expect(await lab.listFile()).toBe(`${COMMENTED}${lab.path}\n`);
  });

  test('through the master socket alone it is the same', async () => {
    const lab = await labWithList(haproxyLab, {
      pool: ({ haproxy }) => ({ haproxy: { socket: undefined, masterSocket: haproxy.masterSocketPath } }),
    });
    expect(await lab.look()).toMatchObject({ crtList: { inMemory: 'addable' } });
    expect(await lab.add(selfSigned('added.test'))).toMatchObject({ state: 'verified' });
  });

  test('the file of the list keeps its mode', async () => {
    const lab = await labWithList(haproxyLab);
    const before = await lab.listMode();
    await lab.add(selfSigned('added.test'));
    expect(await lab.listMode()).toBe(before);
  });

  test('clients that keep coming while certificates are added notice nothing', async () => {
    const lab = await labWithList(haproxyLab);
    const { address, tlsPort: port, certDirectory } = lab.host.haproxy;
    const load = startTlsLoad([{ address, port, servername: 'lb.test' }], { workers: 4 });
    onTestFinished(async () => void (await load.stop()));
    for (let i = 0; i < 5; i++) {
      const path = join(certDirectory, `added-${i}.pem`);
      const crtList = { path: LIST, file: join(certDirectory, 'crt-list.txt') };
      const deployment = { path, file: path, crtList };
      const servername = `added-${i}.test`;
      await lab.apply(selfSigned(servername), {
        means: 'add',
        listFile: true,
        deployment,
        verifyServername: servername,
      });
    }
    const { ok, failed, reasons } = await load.stop();
    expect({ failed, reasons }).toEqual({ failed: 0, reasons: {} });
    expect(ok).toBeGreaterThan(20);
  });
});
