import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { watchBundle } from '../support/bundle-watch.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { giveTo } from '../support/ownership.ts';
import { selfSigned } from '../support/pem.ts';
import { labAccount } from '../support/programs.ts';
import { type SocketGate, startSocketGate } from '../support/socket-gate.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { startSshd } from '../support/sshd.ts';
import {
  describeEachHaproxy,
  type HaproxyLab,
  haproxyLab,
  intercept,
  type LabOptions,
} from './haproxy-fixture.ts';

const run = promisify(execFile);
const asRoot = process.getuid?.() === 0;

/** As if kacme had never come: file, memory and directory; and the next change goes well. */
async function expectAsBefore({ host, old, pem, served }: HaproxyLab): Promise<void> {
  expect(await pem()).toBe(old.bundlePem);
  expect(await served()).toBe(old.fingerprint256);
  expect(await readdir(dirname(host.certPath))).toEqual([basename(host.certPath)]);
  expect(await host.haproxy.command('show ssl cert')).not.toContain('# transaction');
}

async function expectNextGoesWell(lab: HaproxyLab): Promise<void> {
  const next = selfSigned('lb.test');
  expect(await lab.apply(next)).toMatchObject({ state: 'verified' });
  expect(await lab.served()).toBe(next.fingerprint256);
  expect(await readdir(dirname(lab.host.certPath))).toEqual([basename(lab.host.certPath)]);
}

describeEachHaproxy((haproxyLab) => {
  /** A lab whose answers from HAProxy pass through a gate. */
  async function gated(options: LabOptions = {}): Promise<{ lab: HaproxyLab; gate: SocketGate }> {
    const lab = await haproxyLab({
      ...options,
      host: { sshd: { configLines: ['PermitOpen any'] } },
      pool: ({ directory }) => ({
        haproxy: { socket: join(directory, 'gated.sock'), masterSocket: undefined },
      }),
    });
    const gate = await startSocketGate(join(lab.host.directory, 'gated.sock'), lab.host.haproxy.socketPath);
    onTestFinished(() => gate.close());
    return { lab, gate };
  }

  const half = (answer: string) => answer.slice(0, Math.floor(answer.length / 2));
  const garbage = () => '\u0000\u0001HTTP/1.1 400 Bad Request\n\n';
  const nothing = () => '';

  describe('an answer of the socket', () => {
    test.each([
      { to: 'what is asked first', command: /^show info/, how: 'cut short', answer: half },
      { to: 'what is asked first', command: /^show info/, how: 'garbage', answer: garbage },
      { to: 'what is asked first', command: /^show info/, how: 'empty', answer: nothing },
      { to: 'set', command: /^set ssl cert/, how: 'cut short', answer: half },
      { to: 'set', command: /^set ssl cert/, how: 'garbage', answer: garbage },
      { to: 'set', command: /^set ssl cert/, how: 'empty', answer: nothing },
      { to: 'commit', command: /^commit ssl cert/, how: 'cut short', answer: half },
      { to: 'commit', command: /^commit ssl cert/, how: 'garbage', answer: garbage },
      { to: 'commit', command: /^commit ssl cert/, how: 'empty', answer: nothing },
    ])('to $to that is $how undoes the change', async ({ to, how, command, answer }) => {
      const { lab, gate } = await gated();
      gate.tamper(command, answer);
      // What cannot be told apart is asked once more, one by one.
      if (to === 'what is asked first' && how !== 'cut short') gate.tamper(command, answer);
      await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_HAPROXY_(?:SOCKET|REFUSED)$/),
        host: `lb/${lab.host.address}`,
        step: expect.stringMatching(/HAProxy|certificate/),
        reason: expect.stringMatching(/breaks off after \d+ bytes|400 Bad Request|no answer/),
        remedy: expect.stringMatching(/\S/),
      });
      await expectAsBefore(lab);
      await expectNextGoesWell(lab);
    });

    test('about a certificate that HAProxy has is never taken for "none loaded"', async () => {
      const { lab, gate } = await gated();
      const cut = (answer: string) => answer.replace(/^SHA1 FingerPrint: .*$/m, 'SHA1 FingerPrint: 04');
      for (let i = 0; i < 2; i++) gate.tamper(/show ssl cert \//, cut);
      await expect(lab.observe()).rejects.toMatchObject({
        step: `look at HAProxy: show ssl cert ${lab.host.certPath}`,
        remedy: expect.stringContaining('what answers at this socket'),
      });
    });
  });

  test('HAProxy that dies between set and commit: its next start is with the bundle of before', async () => {
    let died = false;
    const lab = await haproxyLab({
      wrap: (session) =>
        intercept(session, 'syncDirectory', async (_path, proceed) => {
          if (!died) await lab.host.haproxy.stop();
          died = true;
          return proceed();
        }),
    });
    await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
      code: 'ERR_HAPROXY_SOCKET',
      message: expect.stringMatching(
        new RegExp(`^lb/${lab.host.address}: .*holds its previous content again`),
      ),
      remedy: expect.stringMatching(/HAProxy/),
    });
    expect(await lab.pem()).toBe(lab.old.bundlePem);
    await lab.host.haproxy.start();
    await expectAsBefore(lab);
    await expectNextGoesWell(lab);
  });
});

test('a connection that is reset during the upload: nothing of it stays', async () => {
  let reset = false;
  const lab = await haproxyLab({
    wrap: (session) =>
      intercept(session, 'createFile', async (_path, proceed) => {
        if (reset) return proceed();
        reset = true;
        const { sshd } = lab.host;
        // Nobody takes the bytes that are under way any more.
        sshd.freeze();
        const upload = proceed();
        await Promise.all([expect(upload).rejects.toThrow(), sshd.killSessions().then(() => sshd.thaw())]);
        return upload;
      }),
  });
  await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
    code: 'ERR_HOST_UNREACHABLE',
    host: `lb/${lab.host.address}`,
    step: 'upload and set',
    reason: expect.stringContaining('the file itself was not touched'),
    remedy: expect.stringMatching(/sshd/),
  });
  await expectAsBefore(lab);
  await expectNextGoesWell(lab);
});

test('an sshd that freezes during a change: it ends in a bounded time, and what came late is put in order', async () => {
  let frozen = false;
  const lab = await haproxyLab({
    wrap: (session) =>
      intercept(session, 'rename', async (_path, proceed) => {
        if (!frozen) lab.host.sshd.freeze();
        frozen = true;
        return proceed();
      }),
  });
  const watch = watchBundle(lab.host.certPath);
  onTestFinished(async () => void (await watch.stop()));
  await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
    code: 'ERR_HOST_UNREACHABLE',
    host: `lb/${lab.host.address}`,
    step: 'rename',
    reason: expect.stringMatching(/Could not be undone: .*haproxy\.pem/),
    remedy: expect.stringMatching(/sshd/),
  });
  expect(await lab.pem()).toBe(lab.old.bundlePem);
  expect(await lab.served()).toBe(lab.old.fingerprint256);

  lab.host.sshd.thaw();
  await lab.haproxy.observe([lab.deployment], { signal: AbortSignal.timeout(5_000) });
  lab.clock.advance(30_000);
  await expectNextGoesWell(lab);
  expect((await watch.stop()).unloadable).toEqual([]);
});

test.runIf(asRoot)('a file system that is read-only', async ({ skip }) => {
  const lab = await haproxyLab();
  const directory = dirname(lab.host.certPath);
  const { uid, gid } = labAccount();
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `uid=${uid},gid=${gid},mode=700`, 'kacme', directory]);
  } catch {
    skip('this machine does not let root mount a tmpfs');
  }
  onTestFinished(async () => void (await run('umount', [directory])));
  await writeFile(lab.host.certPath, lab.old.bundlePem, { mode: 0o600 });
  await giveTo(labAccount(), lab.host.certPath);
  await run('mount', ['-o', 'remount,ro', directory]);
  await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
    code: 'ERR_HOST_NOT_WRITABLE',
    host: `lb/${lab.host.address}`,
    reason: expect.stringMatching(/read-only/),
    remedy: expect.stringContaining(`mount the file system of ${directory} writable`),
  });
  await expectAsBefore(lab);
  await run('mount', ['-o', 'remount,rw', directory]);
  await expectNextGoesWell(lab);
});

test('a host that drops every packet is given up after the connect timeout', async () => {
  const sshd = await startSshd();
  onTestFinished(() => sshd.close());
  const [address, port] = [sshd.address, await freePort(loopbackAddress())];
  // It never takes a connection; when its queue is full the kernel drops what asks for more.
  const deaf = spawn(process.execPath, [
    '-e',
    `require('node:net').createServer().listen({ host: '${address}', port: ${port}, backlog: 1 }, () => {
       require('node:fs').writeSync(1, 'up');
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
     })`,
  ]);
  onTestFinished(async () => {
    const gone = once(deaf, 'close');
    deaf.kill('SIGKILL');
    await gone;
  });
  await once(deaf.stdout, 'data');
  const queued = Array.from({ length: 4 }, () => connect({ host: address, port }));
  onTestFinished(() => {
    for (const socket of queued) socket.destroy();
  });
  const { pool, host } = sshTarget(sshd, { connectTimeoutMs: 1_000 });
  await expect(
    openSession(pool, { ...host, port }, { signal: new AbortController().signal }),
  ).rejects.toMatchObject({
    code: 'ERR_HOST_UNREACHABLE',
    step: 'connect',
    reason: expect.stringContaining('no answer within 1000 ms'),
    remedy: expect.stringContaining(`${address}:${port}`),
  });
});
