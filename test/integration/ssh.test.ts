import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SshSpec } from '../../src/domain/model.ts';
import type { HostSession } from '../../src/ports/host-session.ts';
import { heldMandate } from '../support/mandate.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { giveTo } from '../support/ownership.ts';
import { labAccount, programs } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { type SshdOptions, startSshd, type TestSshd } from '../support/sshd.ts';

const run = promisify(execFile);
const never = new AbortController().signal;

async function sshd(options: SshdOptions = {}): Promise<TestSshd> {
  const server = await startSshd(options);
  onTestFinished(() => server.close());
  return server;
}

async function connect(
  server: TestSshd,
  ssh: Partial<SshSpec> = {},
  { signal }: { signal: AbortSignal } = { signal: never },
): Promise<HostSession> {
  const { pool, host } = sshTarget(server, ssh);
  const session = await openSession(pool, host, { signal });
  onTestFinished(() => session.close());
  return session;
}

/** A server that is no sshd. */
async function listen(onConnection: (socket: Socket) => void): Promise<{ address: string; port: number }> {
  const address = loopbackAddress();
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    onConnection(socket);
  });
  const port = await freePort(address);
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { address, port };
}

const home = (server: TestSshd) => dirname(server.knownHostsFile);

async function fingerprintOf(server: TestSshd): Promise<string> {
  const [key] = await server.hostPublicKeys();
  const file = join(home(server), 'presented.pub');
  await writeFile(file, `${key}\n`);
  const { sshKeygen, env } = programs();
  const { stdout } = await run(sshKeygen, ['-lf', file], { env: { ...env } });
  return stdout.split(' ')[1] ?? '';
}

describe('the host key', () => {
  test('that is not pinned is refused before a login is tried, and the message shows it', async () => {
    const server = await sshd();
    await writeFile(server.knownHostsFile, '# nothing pinned yet\nlb1 broken\n');
    const presented = await fingerprintOf(server);
    await expect(connect(server)).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_UNKNOWN',
      retry: 'never',
      message: expect.stringContaining(
        `lbs/${server.address} (${server.address}:${server.port}): check the host key: no key is pinned in ${server.knownHostsFile} (of which line 2 is ignored: `,
      ),
      reason: expect.stringContaining(`presented ssh-ed25519 ${presented}`),
      remedy: expect.stringContaining(`kacme hosts scan ${server.address} >> ${server.knownHostsFile}`),
    });
    await expect.poll(() => server.output()).toContain('[preauth]'); // it has seen the connection end
    expect(server.output()).not.toMatch(/Accepted|Failed|user haproxy/);
  });

  test('that has changed is refused, and the message names both and the line', async () => {
    const server = await sshd();
    const pinned = await fingerprintOf(server);
    await server.rotateHostKeys();
    const presented = await fingerprintOf(server);
    await expect(connect(server)).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_CHANGED',
      retry: 'never',
      reason: expect.stringContaining(
        `presented ssh-ed25519 ${presented}, but pinned is ssh-ed25519 ${pinned} (${server.knownHostsFile}:1)`,
      ),
    });
    await expect.poll(() => server.output()).toContain('[preauth]');
    expect(server.output()).not.toMatch(/Accepted|Failed|user haproxy/);
  });

  test('that is revoked is refused although it is pinned', async () => {
    const server = await sshd();
    const [key] = await server.hostPublicKeys();
    await appendFile(server.knownHostsFile, `@revoked * ${key}\n`);
    await expect(connect(server)).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_REVOKED',
      reason: expect.stringContaining(`${server.knownHostsFile}:2`),
    });
  });

  test.each(['rsa', 'ecdsa'] as const)('is asked for in the pinned type: %s', async (type) => {
    const server = await sshd({ hostKeyTypes: ['ed25519', 'ecdsa', 'rsa'] });
    const pinned = server.knownHosts
      .split('\n')
      .filter((line) => line.includes(` ${type === 'rsa' ? 'ssh-rsa' : 'ecdsa-'}`));
    await writeFile(server.knownHostsFile, `${pinned.join('\n')}\n`);
    const session = await connect(server);
    expect(session.closed.aborted).toBe(false);
  });

  test('is found in a hashed file, and under the plain address', async () => {
    const server = await sshd();
    const { sshKeygen, env } = programs();
    await run(sshKeygen, ['-H', '-f', server.knownHostsFile], { env: { ...env } });
    expect(await readFile(server.knownHostsFile, 'utf8')).not.toContain(server.address);
    await connect(server);
    const [key] = await server.hostPublicKeys();
    await writeFile(server.knownHostsFile, `${server.address} ${key}\n`);
    await connect(server);
  });

  test('counts as soon as the operator pins it', async () => {
    const server = await sshd();
    await writeFile(server.knownHostsFile, '');
    const { pool, host } = sshTarget(server);
    await expect(openSession(pool, host, { signal: never })).rejects.toMatchObject({
      code: 'ERR_HOST_KEY_UNKNOWN',
    });
    await writeFile(server.knownHostsFile, server.knownHosts);
    const session = await openSession(pool, host, { signal: never });
    await session.close();
  });

  test('cannot be checked without the file', async () => {
    const server = await sshd();
    await expect(connect(server, { knownHosts: '/nowhere/known_hosts' })).rejects.toMatchObject({
      code: 'ERR_CONFIG_UNREADABLE',
      message: expect.stringContaining('/nowhere/known_hosts'),
    });
  });
});

describe('the login', () => {
  test('that is refused names the user, the identity and the remedy', async () => {
    const server = await sshd();
    await server.allowLogin(false);
    await expect(connect(server)).rejects.toMatchObject({
      code: 'ERR_HOST_LOGIN_REFUSED',
      retry: 'never',
      message: expect.stringContaining(`log in as haproxy with ${server.identityFile}: sshd refused the key`),
      remedy: expect.stringContaining('authorized_keys of haproxy'),
    });
    await server.allowLogin(true);
    await connect(server);
  });

  test.each([
    { form: 'RSA', generate: () => generateKeyPairSync('rsa', { modulusLength: 2048 }) },
    { form: 'ECDSA', generate: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }) },
  ])('succeeds with an identity in PKCS #8, as kolla-genpwd writes it: $form', async ({ generate }) => {
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const identityFile = join(scratch.path, 'pkcs8');
    const pem = generate().privateKey.export({ type: 'pkcs8', format: 'pem' });
    await writeFile(identityFile, pem, { mode: 0o600 });
    const { sshKeygen, env } = programs();
    const { stdout: publicKey } = await run(sshKeygen, ['-y', '-f', identityFile], { env: { ...env } });
    await connect(await sshd({ identity: { identityFile, publicKey: publicKey.trim() } }));
  });

  test('is not tried with an identity that cannot be used, and no message quotes it', async () => {
    const server = await sshd();
    const { sshKeygen, env } = programs();
    const withPassphrase = join(home(server), 'pkcs8-encrypted');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cipher = { cipher: 'aes-256-cbc', passphrase: 'passphrase' };
    await writeFile(withPassphrase, privateKey.export({ type: 'pkcs8', format: 'pem', ...cipher }));
    const encrypted = join(home(server), 'encrypted');
    await run(sshKeygen, ['-q', '-t', 'ed25519', '-N', 'passphrase', '-f', encrypted], { env: { ...env } });
    const noKey = join(home(server), 'no-key');
    await writeFile(noKey, 'SECRET-CONTENT\n');
    for (const [file, words] of [
      [encrypted, 'it is protected by a passphrase'],
      [withPassphrase, 'it is protected by a passphrase'],
      [`${encrypted}.pub`, 'it is a public key'],
      [noKey, 'it is not a private key SSH knows'],
    ] as const) {
      const attempt = connect(server, { identity: { file } });
      await expect(attempt).rejects.toMatchObject({
        code: 'ERR_SECRET_UNREADABLE',
        message: expect.stringContaining(`read SSH identity ${file}: ${words}`),
      });
      await expect(attempt).rejects.not.toThrow(/SECRET-CONTENT/);
    }
    expect(server.output()).not.toContain('Connection from');
  });
});

describe('a host that does not answer as it should', () => {
  const elsewhere = async (
    server: TestSshd,
    place: { address: string; port: number },
    ssh: Partial<SshSpec> = {},
  ) => {
    const { pool, host } = sshTarget(server, ssh);
    return openSession(pool, { ...host, ...place }, { signal: never });
  };

  test('and refuses connections', async () => {
    const server = await sshd();
    await server.stop();
    await expect(connect(server)).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      retry: 'later',
      message: `lbs/${server.address} (${server.address}:${server.port}): connect: connection refused, nothing listens there (ECONNREFUSED)`,
    });
  });

  test('and whose name does not exist', async () => {
    const server = await sshd();
    await expect(elsewhere(server, { address: 'lb1.invalid', port: 22 })).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringMatching(/connect: the name (does not exist in DNS|server does not answer) \(E/),
    });
  });

  test('and says nothing', async () => {
    const silent = await listen(() => {});
    const begin = performance.now();
    await expect(elsewhere(await sshd(), silent, { connectTimeoutMs: 300 })).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining('await the SSH banner: no answer within 300 ms'),
    });
    expect(performance.now() - begin).toBeLessThan(3_000);
  });

  test('and speaks something else than SSH', async () => {
    const http = await listen((socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(elsewhere(await sshd(), http, { connectTimeoutMs: 300 })).rejects.toThrow(
      /it said "HTTP\/1.1 400 Bad Request" instead of naming an SSH version/,
    );
  });

  test('and hangs up at once, each time', async () => {
    let connections = 0;
    const busy = await listen((socket) => {
      connections += 1;
      socket.end('Exceeded MaxStartups\r\n');
    });
    await expect(elsewhere(await sshd(), busy, { connectTimeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      retry: 'later',
      message: expect.stringMatching(
        /closed the connection before the handshake, after saying "Exceeded MaxStartups" \(\d attempts\)/,
      ),
      remedy: expect.stringContaining('MaxStartups'),
    });
    expect(connections).toBeGreaterThan(2);
  });

  test('and hangs up during the key exchange', async () => {
    const odd = await listen((socket) => {
      socket.write('SSH-2.0-Odd\r\n');
      socket.once('data', () => socket.end());
    });
    await expect(elsewhere(await sshd(), odd)).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining('exchange keys: the server closed the connection'),
    });
  });

  test('is given up at once when the caller gives up', async () => {
    const caller = new AbortController();
    const silent = await listen(() => caller.abort(new Error('enough')));
    const { pool, host } = sshTarget(await sshd());
    const opening = openSession(pool, { ...host, ...silent }, caller);
    await expect(opening).rejects.toThrow('enough');
  });
});

test('twenty sessions opened at once to an sshd that takes two are all opened', async () => {
  const server = await sshd({ configLines: ['MaxStartups 2:100:2'] });
  const sessions = await Promise.all(Array.from({ length: 20 }, () => connect(server)));
  expect(sessions.every((session) => !session.closed.aborted)).toBe(true);
  expect(server.output()).toMatch(/drop connection|MaxStartups/);
});

test('at most four connections at once are not logged in yet at one sshd', async () => {
  const open = new Set<Socket>();
  let most = 0;
  let waiting = () => {};
  const busy = await listen((socket) => {
    open.add(socket);
    most = Math.max(most, open.size);
    socket.once('close', () => open.delete(socket));
    if (open.size >= 4) waiting();
  });
  const { pool, host } = sshTarget(await sshd());
  const caller = new AbortController();
  const four = new Promise<void>((resolve) => {
    waiting = resolve;
  });
  const opening = Array.from({ length: 12 }, () => openSession(pool, { ...host, ...busy }, caller));
  const failed = Promise.all(opening.map((session) => expect(session).rejects.toThrow()));
  await four;
  // They hang up side by side, and others come in their place.
  for (const socket of open) socket.end();
  await expect.poll(() => open.size).toBe(4);
  caller.abort(new Error('enough'));
  await failed;
  expect(most).toBe(4);
});

describe('an open session', () => {
  test('that is killed fails what is in flight at once, and says why', async () => {
    const server = await sshd();
    const session = await connect(server);
    await session.stat('/', { signal: never });
    server.freeze(); // so that the next request stays in flight
    const inFlight = session.stat('/', { signal: never });
    const failed = expect(inFlight).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining('session: '),
    });
    await server.killSessions();
    await failed;
    expect(session.closed.reason).toMatchObject({ code: 'ERR_HOST_UNREACHABLE', retry: 'later' });
    server.thaw();
  });

  test('whose connection is lost turns a half answer of a socket into an error', async () => {
    const scratch = await scratchDirectory(labAccount());
    onTestFinished(() => scratch.remove());
    const path = join(scratch.path, 'half.sock');
    const half = createServer((socket) => socket.write('half an answer'));
    await new Promise<void>((resolve) => half.listen(path, resolve));
    onTestFinished(() => void half.close());
    await giveTo(labAccount(), scratch.path);
    const server = await sshd({ forward: [path] });
    const session = await connect(server);
    const socket = await session.connectSocket(path, { signal: never });
    const chunks: string[] = [];
    const read = (async () => {
      for await (const chunk of socket) {
        chunks.push(String(chunk));
        await server.killSessions();
      }
    })();
    await expect(read).rejects.toMatchObject({ code: 'ERR_HOST_UNREACHABLE' });
    expect(chunks).toEqual(['half an answer']);
  });

  test('to a host that freezes is noticed within three seconds', async () => {
    const server = await sshd();
    const session = await connect(server);
    await session.stat('/', { signal: never });
    server.freeze();
    onTestFinished(() => server.thaw());
    const begin = performance.now();
    await expect(session.readFile('/etc/hostname', { signal: never })).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining('the host stopped answering'),
    });
    expect(performance.now() - begin).toBeLessThan(3_000);
    await session.close();
  });

  const calmly = { signal: never };
  const effect = () => ({ signal: never, mandate: heldMandate() });
  test.each<[string, (session: HostSession) => Promise<unknown>]>([
    ['stat', (session) => session.stat('/', calmly)],
    ['readDirectory', (session) => session.readDirectory('/', calmly)],
    ['createFile', (session) => session.createFile('/tmp/kacme-frozen', Buffer.from('x'), effect())],
    ['link', (session) => session.link('/nowhere/a', '/nowhere/b', effect())],
    ['rename', (session) => session.rename('/nowhere/a', '/nowhere/b', effect())],
    ['remove', (session) => session.remove('/nowhere/a', effect())],
    ['setMode', (session) => session.setMode('/nowhere/a', 0o600, effect())],
    ['setOwner', (session) => session.setOwner('/nowhere/a', 0, 0, effect())],
    ['syncDirectory', (session) => session.syncDirectory('/', calmly)],
    ['connectSocket', (session) => session.connectSocket('/run/allowed.sock', calmly)],
  ])(
    'to a host that froze while nothing was asked of it: %s ends, and says why',
    async (_name, operation) => {
      const server = await sshd({ forward: ['/run/allowed.sock'] });
      const session = await connect(server);
      await session.stat('/', { signal: never });
      server.freeze();
      onTestFinished(() => server.thaw());
      await expect(operation(session)).rejects.toMatchObject({
        code: 'ERR_HOST_UNREACHABLE',
        retry: 'later',
        message: expect.stringContaining('session: the host stopped answering'),
      });
      expect(session.closed.aborted).toBe(true);
    },
  );

  test('to a host that freezes before HAProxy has answered ends the wait for it', async () => {
    const scratch = await scratchDirectory(labAccount());
    onTestFinished(() => scratch.remove());
    const path = join(scratch.path, 'silent.sock');
    const held = new Set<Socket>();
    const silent = createServer((socket) => held.add(socket));
    await new Promise<void>((resolve) => silent.listen(path, resolve));
    onTestFinished(() => {
      for (const socket of held) socket.destroy();
      silent.close();
    });
    await giveTo(labAccount(), scratch.path);
    const server = await sshd({ forward: [path] });
    const session = await connect(server);
    const socket = await session.connectSocket(path, { signal: never });
    const ended = expect(text(socket)).rejects.toMatchObject({
      code: 'ERR_HOST_UNREACHABLE',
      message: expect.stringContaining('the host stopped answering'),
    });
    server.freeze();
    onTestFinished(() => server.thaw());
    await ended;
  });

  test('may not reach a socket that sshd does not allow, and the remedy names the setting', async () => {
    const session = await connect(await sshd({ forward: ['/run/allowed.sock'] }));
    await expect(session.connectSocket('/run/other.sock', { signal: never })).rejects.toMatchObject({
      code: 'ERR_HAPROXY_SOCKET',
      remedy: expect.stringContaining('PermitOpen [/run/other.sock]:*'),
    });
  });
});

describe('SFTP', () => {
  test('that the host does not offer is an error with the way out', async () => {
    const session = await connect(await sshd({ account: 'shell' }));
    await expect(session.stat('/', { signal: never })).rejects.toMatchObject({
      code: 'ERR_HOST_FILES',
      message: expect.stringContaining('start the sftp subsystem: '),
      remedy: expect.stringContaining('exec: '),
    });
  });

  test.each([
    {
      exec: '/nowhere/sftp-server',
      words: /execute \/nowhere\/sftp-server: .*ended \(127\) before it spoke SFTP: .*not found/,
    },
    { exec: '/bin/pwd', words: /execute \/bin\/pwd: the executed program does not speak SFTP/ },
  ])('over $exec is an error that tells what it said', async ({ exec, words }) => {
    const session = await connect(await sshd({ account: 'shell' }), { sftp: { exec } });
    await expect(session.stat('/', { signal: never })).rejects.toThrow(words);
  });

  test('is started again when the sftp-server has died', async () => {
    const server = await sshd({ account: 'shell' });
    const session = await connect(server, { sftp: { exec: programs().sftpServer } });
    await session.stat('/', { signal: never });
    const sftpServer = server.pids().at(-1);
    if (sftpServer === undefined) throw new Error('an sftp-server runs');
    process.kill(sftpServer, 'SIGKILL');
    await expect
      .poll(() =>
        session.stat('/', { signal: never }).then(
          (stat) => stat?.type,
          () => undefined,
        ),
      )
      .toBe('directory');
  });

  test.runIf(process.getuid?.() === 0)(
    'on a full disk says so, and leaves nothing behind',
    async ({ skip }) => {
      const scratch = await scratchDirectory(labAccount());
      onTestFinished(() => scratch.remove());
      const disk = join(scratch.path, 'disk');
      await mkdir(disk);
      const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0777', 'tmpfs', disk]).catch(
        () => undefined,
      );
      if (mounted === undefined) return skip('this machine may not mount a tmpfs');
      onTestFinished(async () => void (await run('umount', [disk])));
      const session = await connect(await sshd());
      await expect(
        session.createFile(join(disk, 'file'), Buffer.alloc(100_000, 1), {
          signal: never,
          mandate: heldMandate(),
        }),
      ).rejects.toMatchObject({
        code: 'ERR_HOST_DISK_FULL',
        reason: 'the file system is full',
      });
      expect(await readdir(disk)).toEqual([]);
      await session.close();
    },
  );
});

test('a mandate lost while SFTP starts lets nothing be changed', async () => {
  const server = await sshd();
  const session = await connect(server);
  const mandate = heldMandate();
  const removing = session.remove(server.knownHostsFile, { signal: never, mandate });
  mandate.lose();
  await expect(removing).rejects.toMatchObject({ code: 'ERR_MANDATE_LOST' });
  expect(await readdir(home(server))).toContain(basename(server.knownHostsFile));
});
