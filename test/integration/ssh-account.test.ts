import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Client, type ClientChannel } from 'ssh2';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { HostSession } from '../../src/ports/host-session.ts';
import { heldMandate } from '../support/mandate.ts';
import { giveTo } from '../support/ownership.ts';
import { labAccount, programs } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { createIdentity, startSshd, type TestSshd } from '../support/sshd.ts';

const { signal } = new AbortController();
const account = labAccount();

/** The forced command of the documentation for an sshd without the sftp subsystem. */
async function forcedSftpServer(): Promise<string> {
  const page = await readFile(new URL('../../docs/ssh.md', import.meta.url), 'utf8');
  const line = /```sshd_config\n {4}(ForceCommand \S+sftp-server .*)\n```/.exec(page)?.[1];
  if (line === undefined)
    throw new Error('docs/ssh.md has a forced command for an sshd without the subsystem');
  return line.replace('/usr/lib/openssh/sftp-server', programs().sftpServer);
}

/** The block of the documentation, with its user and paths replaced by those of the lab. */
async function documentedBlock(paths: { socket: string; authorizedKeys: string }): Promise<string> {
  const page = await readFile(new URL('../../docs/ssh.md', import.meta.url), 'utf8');
  const block = /```sshd_config\n([\s\S]*?)```/.exec(page)?.[1];
  if (block === undefined) throw new Error('docs/ssh.md has an sshd_config block');
  return block
    .replace('Match User kacme', `Match User ${account.name}`)
    .replace('/etc/ssh/authorized_keys.d/kacme', paths.authorizedKeys)
    .replace('/run/haproxy/admin.sock', paths.socket);
}

describe('the account of docs/ssh.md', () => {
  let root: Awaited<ReturnType<typeof scratchDirectory>>;
  let sshd: TestSshd;
  let session: HostSession;
  const greeter = createServer((socket) => socket.end('HAProxy speaks'));
  const neighbour = createServer((socket) => socket.end('a neighbour speaks'));
  const at = (name: string) => join(root.path, name);

  beforeAll(async () => {
    root = await scratchDirectory(account);
    await once(greeter.listen(at('haproxy.sock')), 'listening');
    await once(neighbour.listen(at('neighbour.sock')), 'listening');
    const identity = await createIdentity(at('id'));
    await writeFile(at('authorized_keys'), `${identity.publicKey}\n`);
    const block = await documentedBlock({
      socket: at('haproxy.sock'),
      authorizedKeys: at('authorized_keys'),
    });
    await writeFile(at('kacme.conf'), block);
    await mkdir(at('certificates'));
    await giveTo(account, root.path);
    await giveTo({ uid: 0, gid: 0 }, identity.identityFile);
    sshd = await startSshd({
      account: 'shell', // all that the block does not forbid is allowed
      identity: { ...identity, publicKey: '# the block names another file' },
      configLines: ['Subsystem sftp internal-sftp', `Include ${at('kacme.conf')}`],
    });
    const { pool, host } = sshTarget(sshd);
    session = await openSession(pool, host, { signal });
    return async () => {
      await session.close();
      await sshd.close();
      await root.remove();
    };
  });
  afterAll(() => {
    greeter.close();
    neighbour.close();
  });

  /** A client that asks for what kacme never would. */
  async function intruder(): Promise<Client & AsyncDisposable> {
    const client = new Client();
    client.connect({
      host: sshd.address,
      port: sshd.port,
      username: sshd.user,
      privateKey: await readFile(sshd.identityFile),
    });
    await once(client, 'ready');
    return Object.assign(client, {
      [Symbol.asyncDispose]: async () => {
        client.end();
        await once(client, 'close');
      },
    });
  }

  test('lets kacme replace a file durably', async () => {
    const [draft, target] = [at('certificates/new'), at('certificates/haproxy.pem')];
    const effect = { signal, mandate: heldMandate() };
    await session.createFile(draft, Buffer.from('bundle'), effect);
    await session.rename(draft, target, effect);
    await session.link(target, `${target}.prev`, effect);
    await session.syncDirectory(at('certificates'), { signal });
    expect(await session.stat(target, { signal })).toMatchObject({ mode: 0o600, size: 6 });
  });

  test('lets kacme talk to the one socket, and to no other', async () => {
    const socket = await session.connectSocket(at('haproxy.sock'), { signal });
    expect(await text(socket)).toBe('HAProxy speaks');
    await expect(session.connectSocket(at('neighbour.sock'), { signal })).rejects.toMatchObject({
      code: 'ERR_HAPROXY_SOCKET',
    });
  });

  test('forwards no TCP', async () => {
    await using client = await intruder();
    const forwarding = new Promise((resolve, reject) =>
      client.forwardOut('127.0.0.1', 1, sshd.address, sshd.port, (error, channel) =>
        error ? reject(error) : resolve(channel),
      ),
    );
    await expect(forwarding).rejects.toThrow(/open failed/i);
  });

  test('listens for nobody', async () => {
    await using client = await intruder();
    const listening = new Promise((resolve, reject) =>
      client.openssh_forwardInStreamLocal(at('listen.sock'), (error) =>
        error ? reject(error) : resolve(true),
      ),
    );
    await expect(listening).rejects.toThrow(/Unable to bind/);
  });

  test('runs no command', async () => {
    await using client = await intruder();
    const output = await new Promise<string>((resolve, reject) =>
      client.exec(`touch ${at('executed')}; echo executed`, (error, channel) => {
        if (error) return reject(error);
        channel.end();
        text(channel).then(resolve, reject);
      }),
    );
    expect(output).not.toContain('executed');
    expect(await session.stat(at('executed'), { signal })).toBeUndefined();
  });

  test('gives no terminal', async () => {
    await using client = await intruder();
    const shell = new Promise((resolve, reject) =>
      client.shell((error, channel) => (error ? reject(error) : resolve(channel))),
    );
    await expect(shell).rejects.toThrow(/pseudo-terminal/);
  });
});

test('without the subsystem, the account is given the sftp-server and nothing else, and a second socket', async () => {
  const root = await scratchDirectory(account);
  onTestFinished(() => root.remove());
  const at = (name: string) => join(root.path, name);
  const sockets = ['haproxy.sock', 'master.sock'].map(at);
  for (const path of sockets) {
    const greeter = createServer((socket) => socket.end(path));
    await once(greeter.listen(path), 'listening');
    onTestFinished(() => void greeter.close());
  }
  const identity = await createIdentity(at('id'));
  await writeFile(at('authorized_keys'), `restrict,port-forwarding ${identity.publicKey}\n`);
  const [first = '', second = ''] = sockets;
  const block = await documentedBlock({ socket: first, authorizedKeys: at('authorized_keys') });
  const forced = block
    .replace(/ForceCommand .*/, await forcedSftpServer())
    .replace(/(PermitOpen .*)/, `$1 [${second}]:*`);
  await writeFile(at('kacme.conf'), forced);
  await giveTo(account, root.path);
  await giveTo({ uid: 0, gid: 0 }, identity.identityFile);
  const sshd = await startSshd({
    account: 'shell',
    identity: { ...identity, publicKey: '# the block names another file' },
    configLines: [`Include ${at('kacme.conf')}`],
  });
  onTestFinished(() => sshd.close());
  const { pool, host } = sshTarget(sshd, { sftp: { exec: '/usr/lib/openssh/sftp-server' } });
  const session = await openSession(pool, host, { signal });
  onTestFinished(() => session.close());

  const effect = { signal, mandate: heldMandate() };
  await session.createFile(at('bundle'), Buffer.from('bundle'), effect);
  expect(await session.stat(at('bundle'), { signal })).toMatchObject({ mode: 0o600, size: 6 });
  for (const path of sockets) expect(await text(await session.connectSocket(path, { signal }))).toBe(path);

  const client = new Client();
  client.connect({
    host: sshd.address,
    port: sshd.port,
    username: sshd.user,
    privateKey: await readFile(sshd.identityFile),
  });
  await once(client, 'ready');
  const channel = await new Promise<ClientChannel>((resolve, reject) =>
    client.exec(`touch ${at('executed')}`, (error, opened) => (error ? reject(error) : resolve(opened))),
  );
  channel.resume().end();
  await once(channel, 'close');
  client.end();
  await once(client, 'close');
  expect(await session.stat(at('executed'), { signal })).toBeUndefined();
});
