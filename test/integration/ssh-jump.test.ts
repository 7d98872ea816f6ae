import { once } from 'node:events';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Client } from 'ssh2';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { JumpSpec } from '../../src/domain/model.ts';
import type { HaproxyHost } from '../../src/ports/haproxy-host.ts';
import type { HostSession } from '../../src/ports/host-session.ts';
import { eventually } from '../support/eventually.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { giveTo } from '../support/ownership.ts';
import { selfSigned } from '../support/pem.ts';
import { labAccount } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, type SshTargetSpec, sshTarget } from '../support/ssh-target.ts';
import { createIdentity, startSshd, type TestSshd } from '../support/sshd.ts';
import { type HaproxyLab, haproxyLab, type LabOptions } from './haproxy-fixture.ts';

const { signal } = new AbortController();
const account = labAccount();

/** The block for a jump host in the documentation, with its user, path and hosts replaced by those of the lab. */
async function documentedBlock(authorizedKeys: string, hosts: readonly string[]): Promise<string> {
  const page = await readFile(new URL('../../docs/ssh.md', import.meta.url), 'utf8');
  const block = /## Jump hosts[\s\S]*?```sshd_config\n([\s\S]*?)```/.exec(page)?.[1];
  if (block === undefined) throw new Error('docs/ssh.md has an sshd_config block for jump hosts');
  return block
    .replace('Match User kacme', `Match User ${account.name}`)
    .replace('/etc/ssh/authorized_keys.d/kacme', authorizedKeys)
    .replace(/PermitOpen .*/, `PermitOpen ${hosts.join(' ')}`);
}

const endpointOf = ({ address, port }: { address: string; port: number }) =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

async function host(address?: string): Promise<TestSshd> {
  const sshd = await startSshd(address === undefined ? {} : { address });
  onTestFinished(() => sshd.close());
  return sshd;
}

/** The documented account on an sshd of its own, which may connect to these. */
async function jumpHost(behind: readonly { address: string; port: number }[]): Promise<TestSshd> {
  const scratch = await scratchDirectory(account);
  onTestFinished(() => scratch.remove());
  const identity = await createIdentity(join(scratch.path, 'id'));
  const authorizedKeys = join(scratch.path, 'authorized_keys');
  await writeFile(authorizedKeys, `${identity.publicKey}\n`);
  const config = join(scratch.path, 'kacme-jump.conf');
  await writeFile(config, await documentedBlock(authorizedKeys, behind.map(endpointOf)));
  await giveTo(account, scratch.path);
  await giveTo({ uid: 0, gid: 0 }, identity.identityFile);
  const sshd = await startSshd({
    account: 'shell', // all that the block does not forbid is allowed
    identity: { ...identity, publicKey: '# the block names another file' },
    configLines: ['Subsystem sftp internal-sftp', `Include ${config}`],
  });
  onTestFinished(() => sshd.close());
  return sshd;
}

const jumpSpec = ({ address, port, user, identityFile, knownHostsFile }: TestSshd): JumpSpec => ({
  address,
  port,
  user,
  identity: { file: identityFile },
  knownHosts: knownHostsFile,
});

const through = (target: TestSshd, ...jumps: readonly TestSshd[]): SshTargetSpec =>
  sshTarget(target, { jumps: jumps.map(jumpSpec), connectTimeoutMs: 20_000 });

async function connect({ pool, host }: SshTargetSpec): Promise<HostSession> {
  const session = await openSession(pool, host, { signal });
  onTestFinished(() => session.close());
  return session;
}

const logins = (sshd: TestSshd) => sshd.output().match(/Accepted publickey/g)?.length ?? 0;

test('all hosts behind a jump host share one connection to it, which ends with the last of theirs', async () => {
  const hosts = [await host(), await host(), await host()];
  const jump = await jumpHost(hosts);
  const sessions = await Promise.all(hosts.map((one) => connect(through(one, jump))));
  for (const session of sessions)
    expect(await session.stat('/', { signal })).toMatchObject({ type: 'directory' });
  expect(logins(jump)).toBe(1);
  expect(hosts.map(logins)).toEqual([1, 1, 1]);
  const [last, ...others] = sessions;
  await Promise.all(others.map((session) => session.close()));
  expect(await last?.stat('/', { signal })).toMatchObject({ type: 'directory' });
  expect(jump.pids().length).toBeGreaterThan(1);
  await last?.close();
  await eventually('the connection to the jump host is closed', () => jump.pids().length === 1);
});

test('a host with an IPv6 address is reached through two jump hosts, the nearest one first', async () => {
  const target = await host('::1');
  const far = await jumpHost([target]);
  const near = await jumpHost([far]);
  const session = await connect(through(target, near, far));
  expect(await session.stat('/', { signal })).toMatchObject({ type: 'directory' });
  expect([near, far, target].map(logins)).toEqual([1, 1, 1]);
});

describe('the host key of a jump host', () => {
  let target: TestSshd;
  let jump: TestSshd;
  beforeEach(async () => {
    target = await host();
    jump = await jumpHost([target]);
  });

  test('that is not pinned is refused before a login there, and nothing behind it is contacted', async () => {
    await writeFile(jump.knownHostsFile, target.knownHosts);
    await expect(connect(through(target, jump))).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_UNKNOWN',
      retry: 'never',
      message: expect.stringContaining(
        `lbs/${target.address} (${endpointOf(target)} through ${endpointOf(jump)}): jump host ${endpointOf(jump)}: check the host key: no key is pinned in ${jump.knownHostsFile}`,
      ),
    });
    expect(logins(jump)).toBe(0);
    expect(target.output()).not.toContain('Connection from');
  });

  test('that has changed is refused', async () => {
    await jump.rotateHostKeys();
    await expect(connect(through(target, jump))).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_CHANGED',
      message: expect.stringContaining(`jump host ${endpointOf(jump)}: check the host key`),
    });
  });

  test('does not stand in for that of the host behind it', async () => {
    const spec = through(target, jump);
    await writeFile(target.knownHostsFile, jump.knownHosts);
    await expect(connect(spec)).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_UNKNOWN',
      reason: expect.stringContaining(`no key is pinned in ${target.knownHostsFile}`),
    });
    await appendFile(target.knownHostsFile, target.knownHosts);
    await connect(spec);
  });
});

describe('a jump host', () => {
  test('that is down is named by the error of each host behind it', async () => {
    const [one, other] = [await host(), await host()];
    const jump = await jumpHost([one, other]);
    await jump.stop();
    for (const target of [one, other])
      await expect(connect(through(target, jump))).rejects.toMatchObject({
        code: 'ERR_HOST_UNREACHABLE',
        retry: 'later',
        message: `lbs/${target.address} (${endpointOf(target)} through ${endpointOf(jump)}): jump host ${endpointOf(jump)}: connect: connection refused, nothing listens there (ECONNREFUSED)`,
      });
  });

  test('that refuses the login is asked once for all hosts behind it', async () => {
    const hosts = await Promise.all(Array.from({ length: 5 }, () => host()));
    const jump = await jumpHost(hosts);
    const stranger = { ...jumpSpec(jump), identity: { file: hosts[0]?.identityFile ?? '' } };
    const attempts = hosts.map((target) => {
      const spec = sshTarget(target, { jumps: [stranger] });
      return expect(connect(spec)).rejects.toMatchObject({
        code: 'ERR_HOST_LOGIN_REFUSED',
        message: expect.stringContaining(`jump host ${endpointOf(jump)}: log in as ${jump.user}`),
      });
    });
    await Promise.all(attempts);
    expect(jump.output().match(/Connection from/g)).toHaveLength(1);
  });

  test('that may not connect to a host says so, with the setting', async () => {
    const [target, allowed] = [await host(), await host()];
    const jump = await jumpHost([allowed]);
    await expect(connect(through(target, jump))).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      reason: expect.stringContaining(`jump host ${endpointOf(jump)} may not connect there`),
      remedy: expect.stringContaining(`PermitOpen ${endpointOf(target)}`),
    });
  });

  test('in front of a host that is down says so', async () => {
    const target = await host();
    const jump = await jumpHost([target]);
    const spec = through(target, jump);
    await target.stop();
    await expect(connect(spec)).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      step: 'connect',
      reason: expect.stringMatching(/jump host \S+ could not connect \(.*Connection refused\)/),
    });
  });

  test('that freezes is named by what was waiting for a host behind it', async () => {
    const target = await host();
    const jump = await jumpHost([target]);
    const session = await connect(through(target, jump));
    await session.stat('/', { signal });
    jump.freeze();
    onTestFinished(() => jump.thaw());
    await expect(session.stat('/', { signal })).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining(
        `session: jump host ${endpointOf(jump)}: session: the host stopped answering`,
      ),
    });
  });

  test('is not blamed for a host behind it that freezes', async () => {
    const [frozen, other] = [await host(), await host()];
    const jump = await jumpHost([frozen, other]);
    const [session, neighbour] = [await connect(through(frozen, jump)), await connect(through(other, jump))];
    await session.stat('/', { signal });
    frozen.freeze();
    onTestFinished(() => frozen.thaw());
    await expect(session.stat('/', { signal })).rejects.toMatchObject({
      message: expect.stringContaining('): session: the host stopped answering'),
    });
    expect(await neighbour.stat('/', { signal })).toMatchObject({ type: 'directory' });
  });

  test('that is lost is reached again by the next session', async () => {
    const target = await host();
    const jump = await jumpHost([target]);
    const session = await connect(through(target, jump));
    await jump.killSessions();
    await eventually('the session is closed', () => session.closed.aborted);
    expect(session.closed.reason).toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining(`jump host ${endpointOf(jump)}`),
    });
    const again = await connect(through(target, jump));
    expect(await again.stat('/', { signal })).toMatchObject({ type: 'directory' });
    expect(logins(jump)).toBe(2);
  });
});

describe('handshakes that verify a host', () => {
  /** A real HAProxy whose host allows no way but to its socket, and a jump host that may connect to these ports. */
  async function labBehind(
    ports: (lab: HaproxyLab) => readonly number[],
    through: 'host' | 'jump',
    options: LabOptions = {},
  ): Promise<{ lab: HaproxyLab; jump: TestSshd; behind: HaproxyHost }> {
    const lab = await haproxyLab(options);
    const { address, sshd, haproxy } = lab.host;
    const jump = await jumpHost([sshd.port, ...ports(lab)].map((port) => ({ address, port })));
    const { pool, host } = lab.haproxy;
    if (pool.ssh === undefined) throw new Error('the lab is reached over SSH');
    const connect = [`{host}:${haproxy.tlsPort}`];
    const behind = lab.hosts.host(
      {
        ...pool,
        name: 'behind',
        ssh: { ...pool.ssh, jumps: [jumpSpec(jump)] },
        verify: { ...pool.verify, connect, through },
      },
      host,
    );
    return { lab, jump, behind };
  }
  const tlsPort = ({ host }: HaproxyLab) => [host.haproxy.tlsPort];
  const request = { servername: 'lb.test', family: undefined } as const;

  test('start on the jump host, where it may connect there', async () => {
    const { lab, jump, behind } = await labBehind(tlsPort, 'jump');
    const next = selfSigned('lb.test');
    expect(await lab.apply(next, { by: behind })).toEqual({ state: 'verified', handshakes: 4 });
    const other = { ...request, fingerprint256: lab.old.fingerprint256 };
    expect(await behind.verify(other, { signal })).toMatchObject({
      state: 'failed',
      answered: true,
      reason: expect.stringMatching(/^4 of 4 handshakes with \S+ presented SHA-256/),
    });
    // All over one login, and nothing of them stays.
    expect(logins(jump)).toBe(1);
    lab.hosts.retain([]);
    await eventually('the connection to the jump host is closed', () => jump.pids().length === 1);
  });

  test('that the jump host may not make: the change is undone, and the setting is named', async () => {
    const { lab, behind } = await labBehind(() => [], 'jump');
    const { address, haproxy } = lab.host;
    await expect(lab.apply(selfSigned('lb.test'), { by: behind })).rejects.toMatchObject({
      code: 'ERR_HOST_UNVERIFIED',
      reason: expect.stringMatching(
        new RegExp(`may not connect there .*: allow it .*PermitOpen ${address}:${haproxy.tlsPort}`),
      ),
    });
    expect(await lab.served()).toBe(lab.old.fingerprint256);
    expect(await lab.pem()).toBe(lab.old.bundlePem);
  });

  test('start on the host itself, where its own sshd allows it', async () => {
    // Without an address of its own to name, the sshd of the lab allows all.
    const open = { host: { sshd: { configLines: ['PermitOpen any'] } } };
    const { lab, behind } = await labBehind(() => [], 'host', open);
    expect(await lab.apply(selfSigned('lb.test'), { by: behind })).toMatchObject({ state: 'verified' });
    const closed = await labBehind(() => [], 'host');
    const held = { ...request, fingerprint256: closed.lab.old.fingerprint256 };
    expect(await closed.behind.verify(held, { signal })).toMatchObject({
      state: 'failed',
      answered: false,
      reason: expect.stringMatching(/may not connect there .*PermitOpen/),
    });
  });

  test('tell that nobody listens there, and end when nobody answers', async () => {
    const { lab, behind } = await labBehind(tlsPort, 'jump');
    const held = { ...request, fingerprint256: lab.old.fingerprint256 };
    await lab.host.haproxy.stop();
    expect(await behind.verify(held, { signal })).toMatchObject({
      state: 'failed',
      answered: false,
      reason: expect.stringMatching(/could not connect .*Connection refused.*HAProxy listens there/),
    });
    const silent = createServer((socket) => socket.on('error', () => socket.destroy()).resume());
    silent.listen(lab.host.haproxy.tlsPort, lab.host.address);
    await once(silent, 'listening');
    onTestFinished(async () => {
      silent.close();
      await once(silent, 'close');
    });
    const { pool, host } = behind;
    const impatient = lab.hosts.host({ ...pool, verify: { ...pool.verify, timeoutMs: 300 } }, host);
    expect(await impatient.verify(held, { signal })).toMatchObject({
      state: 'failed',
      reason: expect.stringContaining('no handshake within 300 ms'),
    });
  });
});

describe("the jump host's account of docs/ssh.md", () => {
  let jump: TestSshd;
  let client: Client;
  beforeEach(async () => {
    jump = await jumpHost([await host()]);
    client = new Client();
    client.connect({
      host: jump.address,
      port: jump.port,
      username: jump.user,
      privateKey: await readFile(jump.identityFile),
    });
    await once(client, 'ready');
    return async () => {
      client.end();
      await once(client, 'close');
    };
  });

  test('runs no command and no SFTP, and gives no terminal', async () => {
    const output = await new Promise<string>((resolve, reject) =>
      client.exec('echo executed', (error, channel) => {
        if (error) return reject(error);
        channel.end();
        text(channel).then(resolve, reject);
      }),
    );
    expect(output).toBe('');
    const sftp = new Promise((resolve, reject) =>
      client.sftp((error, channel) => (error ? reject(error) : resolve(channel))),
    );
    await expect(sftp).rejects.toThrow();
    const shell = new Promise((resolve, reject) =>
      client.shell((error, channel) => (error ? reject(error) : resolve(channel))),
    );
    await expect(shell).rejects.toThrow(/pseudo-terminal/);
  });

  test('connects to nothing else, and listens for nobody', async () => {
    const address = loopbackAddress();
    const port = await freePort(address);
    const elsewhere = new Promise((resolve, reject) =>
      client.forwardOut('127.0.0.1', 0, jump.address, jump.port, (error, channel) =>
        error ? reject(error) : resolve(channel),
      ),
    );
    await expect(elsewhere).rejects.toThrow(/open failed/i);
    const socket = new Promise((resolve, reject) =>
      client.openssh_forwardOutStreamLocal('/run/haproxy/admin.sock', (error, channel) =>
        error ? reject(error) : resolve(channel),
      ),
    );
    await expect(socket).rejects.toThrow(/open failed/i);
    const listening = new Promise((resolve, reject) =>
      client.forwardIn(address, port, (error) => (error ? reject(error) : resolve(true))),
    );
    await expect(listening).rejects.toThrow(/Unable to bind/);
  });
});
