import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Client } from 'ssh2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { HostSession } from '../../src/ports/host-session.ts';
import { heldMandate } from '../support/mandate.ts';
import { giveTo } from '../support/ownership.ts';
import { labAccount } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { createIdentity, startSshd, type TestSshd } from '../support/sshd.ts';

const { signal } = new AbortController();
const account = labAccount();

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
