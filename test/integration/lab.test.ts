import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { promisify } from 'node:util';
import { Agent, fetch } from 'undici';
import { expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { startFleet } from '../support/fleet.ts';
import { HAPROXY_SERIES, startHaproxy } from '../support/haproxy.ts';
import { startHost } from '../support/host.ts';
import { loopbackAddress } from '../support/net.ts';
import { startPebble } from '../support/pebble.ts';
import { selfSigned, testCa } from '../support/pem.ts';
import { isAlive } from '../support/process.ts';
import { programs } from '../support/programs.ts';
import { startTlsLoad } from '../support/tls-load.ts';

const run = promisify(execFile);

test('HAProxy serves its certificate again after a restart and after a kill', async () => {
  const certificate = selfSigned('one.test');
  const haproxy = await startHaproxy({ bundlePem: certificate.bundlePem });
  onTestFinished(haproxy.close);
  expect(await haproxy.servedFingerprint256('one.test')).toBe(certificate.fingerprint256);
  expect(await haproxy.version()).toMatch(/^\d+\.\d+/);

  await haproxy.stop();
  expect(haproxy.pids()).toEqual([]);
  await haproxy.start();
  await haproxy.kill();
  await haproxy.start();

  expect(await haproxy.servedFingerprint256('one.test')).toBe(certificate.fingerprint256);
});

test.each(HAPROXY_SERIES)(
  'a reload of the HAProxy of %s brings a new worker with what the file holds now, or keeps the old one and says so',
  async (series) => {
    const haproxy = await startHaproxy({ series, bundlePem: selfSigned('one.test').bundlePem });
    onTestFinished(haproxy.close);
    if (series === 'Debian 13') expect(await haproxy.version()).toMatch(/^3\.0\./);
    const next = selfSigned('two.test');
    await writeFile(haproxy.certPath, next.bundlePem);
    await haproxy.reload();
    expect(await haproxy.servedFingerprint256('two.test')).toBe(next.fingerprint256);

    await writeFile(haproxy.certPath, 'not a certificate');
    await expect(haproxy.reload()).rejects.toThrow('ALERT');
    expect(await haproxy.servedFingerprint256('two.test')).toBe(next.fingerprint256);
  },
);

test('HAProxy hands challenges to the backend and redirects everything else', async () => {
  const answering = createServer((_, response) => response.end('key authorization'));
  const address = loopbackAddress();
  await once(answering.listen(0, address), 'listening');
  onTestFinished(() => void answering.close());
  const bound = answering.address();
  const port = typeof bound === 'object' ? bound?.port : undefined;
  const haproxy = await startHaproxy({
    bundlePem: selfSigned('one.test').bundlePem,
    challengeBackend: `${address}:${port}`,
    redirect: true,
  });
  onTestFinished(haproxy.close);
  const dispatcher = new Agent();
  onTestFinished(() => dispatcher.close());
  const get = (path: string) =>
    fetch(`http://${haproxy.address}:${haproxy.httpPort}${path}`, { dispatcher, redirect: 'manual' });

  expect(await (await get('/.well-known/acme-challenge/token')).text()).toBe('key authorization');
  expect((await get('/')).status).toBe(301);
});

test('TLS load sees every request answered while HAProxy is left alone, and failures when it stops', async () => {
  const certificate = selfSigned('load.test', { keyType: 'rsa-2048' });
  const haproxy = await startHaproxy({ bundlePem: certificate.bundlePem });
  onTestFinished(haproxy.close);
  const target = { address: haproxy.address, port: haproxy.tlsPort, servername: 'load.test' };
  for (const keepAlive of [false, true]) {
    const load = startTlsLoad([target], { workers: 4, keepAlive });
    await expect.poll(() => load.counts().ok).toBeGreaterThan(50);
    const { ok, failed, reasons, leaves } = await load.stop();
    expect({ failed, reasons, leaves }).toEqual({
      failed: 0,
      reasons: {},
      leaves: { [certificate.fingerprint256]: ok },
    });
  }
  const load = startTlsLoad([target], { workers: 2 });
  onTestFinished(async () => void (await load.stop()));
  await haproxy.kill();
  await expect.poll(() => load.counts().reasons).toHaveProperty('ECONNREFUSED');
});

test('Pebble is reached with its own CA and answers its directory', async () => {
  const pebble = await startPebble();
  onTestFinished(pebble.close);
  const dispatcher = new Agent({ connect: { ca: await readFile(pebble.caFile, 'utf8') } });
  onTestFinished(() => dispatcher.close());

  const directory = await fetch(pebble.directoryUrl, { dispatcher });

  expect(await directory.json()).toHaveProperty('newOrder');
  expect(await pebble.issuingRoot()).toContain('BEGIN CERTIFICATE');
  await pebble.setAddresses('one.test', ['127.0.0.9']);
});

test('a host takes SFTP from the pinned client and refuses an unknown host key', async () => {
  const host = await startHost({ haproxy: { bundlePem: selfSigned('one.test').bundlePem } });
  onTestFinished(host.close);
  const { sshd } = host;
  expect(await sftp(sshd, `ls ${host.certPath}`)).toContain(host.certPath);
  await sshd.rotateHostKeys();
  await expect(sftp(sshd, 'ls /')).rejects.toThrow('HOST IDENTIFICATION HAS CHANGED');
});

test('a host is refused its login while logins are off', async () => {
  const host = await startHost({ haproxy: { started: false } });
  onTestFinished(host.close);
  await host.sshd.allowLogin(false);
  await expect(sftp(host.sshd, 'ls /')).rejects.toThrow('Permission denied');
  await host.sshd.allowLogin(true);
  await expect(sftp(host.sshd, 'ls /')).resolves.toContain('/');
});

test('a frozen sshd stands still with its sessions until it is thawed', async () => {
  const host = await startHost({ haproxy: { started: false } });
  onTestFinished(host.close);
  const client = connect(host.sshd.port, host.address);
  onTestFinished(() => void client.destroy());
  await once(client, 'data');
  await eventually('sshd has a session', () => host.sshd.pids().length > 1);
  const states = () =>
    Promise.all(
      host.sshd
        .pids()
        .map(async (pid) => /State:\t(.)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]),
    );

  host.sshd.freeze();
  await eventually('all are stopped', async () => (await states()).every((state) => state === 'T'));
  host.sshd.thaw();
  expect(await sftp(host.sshd, 'ls /')).toContain('/');
  await Promise.all([once(client, 'close'), host.sshd.killSessions()]);
});

test('a fleet is pinned by one file and entered with one key', async () => {
  const fleet = await startFleet(3, () => ({
    haproxy: { started: false },
    sshd: { hostKeyTypes: ['ed25519', 'ecdsa', 'rsa'] },
  }));
  onTestFinished(fleet.close);
  const { identityFile, knownHostsFile, user } = fleet;
  for (const { sshd } of fleet.hosts) {
    const { address, port } = sshd;
    expect(await sftp({ address, port, user, identityFile, knownHostsFile }, 'ls /')).toContain('/');
  }
  expect(new Set(fleet.hosts.map(({ address }) => address)).size).toBe(3);
});

test('a shell account has no sftp subsystem but executes sftp-server', async () => {
  const host = await startHost({ haproxy: { started: false }, sshd: { account: 'shell' } });
  onTestFinished(host.close);
  await expect(sftp(host.sshd, 'ls /')).rejects.toThrow();
  expect(await sftp(host.sshd, 'ls /', ['-s', programs().sftpServer])).toContain('/');
});

test('closing a host leaves no process and no file', async () => {
  const host = await startHost({ haproxy: { bundlePem: testCa().issue(['one.test']).bundlePem } });
  const pids = [...host.haproxy.pids(), ...host.sshd.pids()];
  expect(pids.length).toBeGreaterThanOrEqual(3);
  await host.close();
  expect(pids.filter(isAlive)).toEqual([]);
  expect(existsSync(host.haproxy.configPath)).toBe(false);
});

interface SftpTarget {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly identityFile: string;
  readonly knownHostsFile: string;
}

/** OpenSSH's own client, so that the lab is not judged by kacme's. */
async function sftp(target: SftpTarget, command: string, args: readonly string[] = []): Promise<string> {
  const { sftp, ssh, env } = programs();
  const options = [
    ['UserKnownHostsFile', target.knownHostsFile],
    ['StrictHostKeyChecking', 'yes'],
    ['BatchMode', 'yes'],
  ].flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const login = ['-i', target.identityFile, '-P', String(target.port), `${target.user}@${target.address}`];
  const child = run(sftp, ['-F', 'none', '-S', ssh, ...options, ...args, '-b', '-', ...login], { env });
  child.child.stdin?.end(`${command}\n`);
  return (await child).stdout;
}
