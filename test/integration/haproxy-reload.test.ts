import { readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { PoolSpec, ReloadSpec } from '../../src/domain/model.ts';
import { eventually } from '../support/eventually.ts';
import { startHaproxy } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { selfSigned } from '../support/pem.ts';
import { isAlive } from '../support/process.ts';
import { programs } from '../support/programs.ts';
import { startTlsLoad } from '../support/tls-load.ts';
import { describeEachHaproxy, type HaproxyLab } from './haproxy-fixture.ts';

const byMaster: ReloadSpec = {
  command: undefined,
  prepare: undefined,
  validate: undefined,
  on: 'host',
  timeoutMs: 10_000,
};

/** More names than HAProxy's buffer holds: never sent to it. */
const oversized = () =>
  selfSigned(['lb.test', ...Array.from({ length: 400 }, (_, i) => `a-rather-long-name-${i}.lb.test`)]);

const throughMaster = ({ haproxy }: TestHost, reload: Partial<ReloadSpec> = {}): Partial<PoolSpec> => ({
  haproxy: { socket: undefined, masterSocket: haproxy.masterSocketPath },
  reload: { ...byMaster, ...reload },
});

const signalling = ({ haproxy }: TestHost) => ['sh', '-c', `kill -s USR2 "${haproxy.pids()[0]}"`];

const workersOf = ({ host }: HaproxyLab) => host.haproxy.pids().slice(1);

async function expectAsBefore({ host, old, pem, served }: HaproxyLab): Promise<void> {
  expect(await pem()).toBe(old.bundlePem);
  expect(await served()).toBe(old.fingerprint256);
  expect(await readdir(dirname(host.certPath))).toEqual(['haproxy.pem']);
}

describeEachHaproxy((haproxyLab) => {
  describe('a bundle that cannot be given to the running process is loaded by a seamless reload', () => {
    test.each<{ by: string; pool: (host: TestHost) => Partial<PoolSpec>; shell?: boolean }>([
      { by: 'the master socket alone', pool: (host) => throughMaster(host) },
      {
        by: 'a command that kacme runs',
        pool: (host) => ({ reload: { ...byMaster, command: signalling(host), on: 'kacme' } }),
      },
      {
        by: 'a command on the host',
        shell: true,
        pool: (host) => ({
          reload: { ...byMaster, command: signalling(host), validate: ['test', '{host}', '=', host.address] },
          ssh: {
            user: host.sshd.user,
            identity: { file: host.sshd.identityFile },
            knownHosts: host.sshd.knownHostsFile,
            connectTimeoutMs: 5_000,
            sftp: { exec: programs().sftpServer },
            jumps: [],
          },
        }),
      },
    ])('through $by', async ({ pool, shell }) => {
      const lab = await haproxyLab({ pool, host: shell ? { sshd: { account: 'shell' } } : {} });
      const before = workersOf(lab);
      const next = oversized();
      expect(await lab.apply(next, { means: 'reload' })).toEqual({ state: 'verified', handshakes: 4 });
      expect(await lab.served()).toBe(next.fingerprint256);
      expect(await lab.pem()).toBe(next.bundlePem);
      await eventually('the old worker has ended', () => !before.some(isAlive));
      expect(workersOf(lab)).toHaveLength(before.length);
      expect(await readdir(dirname(lab.host.certPath))).toEqual(['haproxy.pem']);
    });
  });

  describe('a reload that fails is undone, and says why', () => {
    test('when the validation refuses the configuration: HAProxy is not even asked', async () => {
      const validate = ['sh', '-c', 'echo "line 7: no such backend"; exit 1'];
      const lab = await haproxyLab({ pool: (host) => throughMaster(host, { validate, on: 'kacme' }) });
      const before = workersOf(lab);
      await expect(lab.apply(oversized(), { means: 'reload' })).rejects.toMatchObject({
        code: 'ERR_HAPROXY_RELOAD',
        step: "validate HAProxy's configuration",
        reason: expect.stringMatching(
          /^sh ended with status 1: line 7: no such backend\. Undone: .*previous content again$/,
        ),
      });
      await expectAsBefore(lab);
      expect(workersOf(lab)).toEqual(before);
    });

    test('when the new worker does not start: the old one is still at work', async () => {
      const lab = await haproxyLab({ pool: (host) => throughMaster(host) });
      const before = workersOf(lab);
      const { configPath } = lab.host.haproxy;
      await writeFile(configPath, `${await readFile(configPath, 'utf8')}\nnonsense\n`);
      await expect(lab.apply(oversized(), { means: 'reload' })).rejects.toMatchObject({
        code: 'ERR_HAPROXY_RELOAD',
        step: 'reload HAProxy',
        reason: expect.stringMatching(/the new worker did not start, the old one is still at work/),
      });
      await expectAsBefore(lab);
      expect(workersOf(lab)).toEqual(before);
    });

    test('when handshakes present another certificate: HAProxy is reloaded back', async () => {
      const other = await startHaproxy({ bundlePem: selfSigned('lb.test').bundlePem });
      onTestFinished(() => other.close());
      const connect = [`${other.address}:${other.tlsPort}`];
      const lab = await haproxyLab({
        pool: (host) => ({
          ...throughMaster(host),
          verify: { connect, handshakes: 1, timeoutMs: 5_000 },
        }),
      });
      await expect(lab.apply(oversized(), { means: 'reload' })).rejects.toMatchObject({
        code: 'ERR_HOST_UNVERIFIED',
        reason: expect.stringMatching(/previous content again; HAProxy was reloaded again, with what it had/),
      });
      await expectAsBefore(lab);
    });

    test('when a command does not bring a new worker, after a bounded time', async () => {
      const lab = await haproxyLab({
        pool: () => ({ reload: { ...byMaster, command: ['true'], on: 'kacme', timeoutMs: 300 } }),
      });
      await expect(lab.apply(oversized(), { means: 'reload' })).rejects.toMatchObject({
        code: 'ERR_HAPROXY_RELOAD',
        reason: expect.stringContaining('no new worker answered within 300 ms'),
      });
      await expectAsBefore(lab);
    });
  });

  test('a path that the configuration does not name is told, and its first file is kept', async () => {
    const lab = await haproxyLab({ pool: (host) => throughMaster(host) });
    const path = join(dirname(lab.host.certPath), 'unnamed.pem');
    const next = selfSigned('lb.test');
    await expect(
      lab.apply(next, { means: 'reload', deployment: { path, file: path } }),
    ).rejects.toMatchObject({
      code: 'ERR_HAPROXY_RELOAD',
      reason: expect.stringContaining(`HAProxy was reloaded, and has nothing loaded from ${path}`),
      remedy: expect.stringContaining('crt argument'),
    });
    expect(await readFile(path, 'utf8')).toBe(next.bundlePem);
    expect(await lab.served()).toBe(lab.old.fingerprint256);
  });

  test('a pool that has no reload is never reloaded', async () => {
    const lab = await haproxyLab();
    await expect(lab.apply(oversized(), { means: 'reload' })).rejects.toMatchObject({
      code: 'ERR_HAPROXY_RELOAD',
      remedy: expect.stringContaining('masterSocket'),
    });
    await expectAsBefore(lab);
  });

  test('clients that open new connections during reloads notice nothing', async () => {
    const lab = await haproxyLab({ pool: (host) => throughMaster(host) });
    const { address, tlsPort: port } = lab.host.haproxy;
    const load = startTlsLoad([{ address, port, servername: 'lb.test' }], { workers: 4 });
    onTestFinished(async () => void (await load.stop()));
    for (let i = 0; i < 6; i++) await lab.apply(selfSigned('lb.test'), { means: 'reload' });
    const { ok, failed, reasons } = await load.stop();
    expect({ failed, reasons }).toEqual({ failed: 0, reasons: {} });
    expect(ok).toBeGreaterThan(20);
  });
});
