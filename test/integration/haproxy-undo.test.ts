import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmod, chown, readdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { KacmeError } from '../../src/domain/errors.ts';
import type { HostSession } from '../../src/ports/host-session.ts';
import { startHaproxy } from '../support/haproxy.ts';
import { heldMandate } from '../support/mandate.ts';
import { selfSigned, testCa } from '../support/pem.ts';
import { labAccount } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { describeEachHaproxy, type HaproxyLab, intercept } from './haproxy-fixture.ts';

const run = promisify(execFile);
const asRoot = process.getuid?.() === 0;

/** Refused by OpenSSL's security level when HAProxy commits it, and not before. */
const refusedAtCommit = () =>
  selfSigned('lb.test', { key: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey });

/** As if kacme had never come: file, memory and directory. */
async function expectAsBefore({ host, old, pem, served }: HaproxyLab): Promise<void> {
  expect(await pem()).toBe(old.bundlePem);
  expect(await served()).toBe(old.fingerprint256);
  expect(await readdir(dirname(host.certPath))).toEqual([basename(host.certPath)]);
  expect(await host.haproxy.command('show ssl cert')).not.toContain('# transaction');
}

describeEachHaproxy((haproxyLab) => {
  describe('a change that fails is undone', () => {
    test('a bundle that HAProxy refuses at commit: file and memory are back, and it says so', async () => {
      const lab = await haproxyLab();
      await expect(lab.apply(refusedAtCommit())).rejects.toMatchObject({
        code: 'ERR_HAPROXY_REFUSED',
        step: `commit certificate ${lab.host.certPath}`,
        reason: expect.stringMatching(/Failed! Undone: .*haproxy\.pem holds its previous content again$/),
      });
      await expectAsBefore(lab);
      await lab.host.haproxy.reload();
      expect(await lab.apply(selfSigned('lb.test'))).toMatchObject({ state: 'verified' });
    });

    test('handshakes that present another certificate: the old bundle is served again', async () => {
      const other = await startHaproxy({ bundlePem: selfSigned('lb.test').bundlePem });
      onTestFinished(() => other.close());
      const lab = await haproxyLab({
        pool: ({ haproxy }) => ({
          verify: {
            connect: [`{host}:${haproxy.tlsPort}`, `${other.address}:${other.tlsPort}`],
            handshakes: 2,
            timeoutMs: 5_000,
          },
        }),
      });
      await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
        code: 'ERR_HOST_UNVERIFIED',
        reason: expect.stringMatching(
          /2 of 2 handshakes with .*previous bundle in memory again; .*previous content again/,
        ),
      });
      await expectAsBefore(lab);
    });

    test('where memory had differed from the file, it says that it cannot be restored', async () => {
      const lab = await haproxyLab({
        pool: () => ({ verify: { connect: ['{host}:1'], handshakes: 1, timeoutMs: 1_000 } }),
      });
      const inFile = selfSigned('lb.test');
      await writeFile(lab.host.certPath, inFile.bundlePem);
      await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
        code: 'ERR_HOST_UNVERIFIED',
        reason: expect.stringMatching(/Could not be undone: HAProxy's memory .* was in no file on the host/),
      });
      expect(await lab.pem()).toBe(inFile.bundlePem);
    });

    test('a connection lost in the middle: kacme connects again and restores', async () => {
      let killed = false;
      const lab = await haproxyLab({
        wrap: (session) =>
          intercept(session, 'syncDirectory', async (_path, proceed) => {
            if (!killed) await lab.host.sshd.killSessions();
            killed = true;
            return proceed();
          }),
      });
      await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
        code: 'ERR_HOST_UNREACHABLE',
        reason: expect.stringContaining('holds its previous content again'),
      });
      await expectAsBefore(lab);
    });

    test('a cancelled one is undone with a deadline of its own', async () => {
      const controller = new AbortController();
      const lab = await haproxyLab({
        wrap: (session) =>
          intercept(session, 'rename', async (path, proceed) => {
            if (path.endsWith('.tmp'))
              controller.abort(new KacmeError('ERR_ABORTED', 'stopped', { retry: 'later' }));
            return proceed();
          }),
      });
      await expect(lab.apply(selfSigned('lb.test'), { signal: controller.signal })).rejects.toMatchObject({
        code: 'ERR_ABORTED',
      });
      await expectAsBefore(lab);
    });

    test('where there was no file, there is none again', async () => {
      const lab = await haproxyLab();
      const copy = join(dirname(lab.host.certPath), 'copy.pem');
      await expect(lab.apply(refusedAtCommit(), { deployment: { copies: [copy] } })).rejects.toMatchObject({
        reason: expect.stringContaining('copy.pem was removed again'),
      });
      await expectAsBefore(lab);
    });

    test('a lost mandate stops it before the next effect and leaves the rest to the new holder', async () => {
      const mandate = heldMandate();
      const lab = await haproxyLab({
        wrap: (session) =>
          intercept(session, 'link', async (_path, proceed) => {
            await proceed();
            mandate.lose();
          }),
      });
      await expect(lab.apply(selfSigned('lb.test'), { mandate })).rejects.toMatchObject({
        code: 'ERR_MANDATE_LOST',
        reason: expect.stringContaining('Left to the holder of the mandate'),
      });
      expect(await lab.pem()).toBe(lab.old.bundlePem);
      expect(await lab.served()).toBe(lab.old.fingerprint256);

      const next = selfSigned('lb.test');
      const successor = lab.restarted();
      await successor.observe([lab.deployment], { signal: AbortSignal.timeout(5_000) });
      lab.clock.advance(30_000);
      await lab.apply(next, { by: successor });
      expect(await lab.served()).toBe(next.fingerprint256);
      expect(await readdir(dirname(lab.host.certPath))).toEqual(['haproxy.pem']);
    });
  });

  test('a mandate lost in the middle of undoing stops that too, and the new holder finishes', async () => {
    const mandate = heldMandate();
    const lab = await haproxyLab({
      wrap: (session) =>
        intercept(session, 'remove', async (path, proceed) => {
          await proceed();
          if (path.endsWith('.tmp')) mandate.lose();
        }),
    });
    const refused = refusedAtCommit();
    await expect(lab.apply(refused, { mandate })).rejects.toMatchObject({
      code: 'ERR_HAPROXY_REFUSED',
      reason: expect.stringMatching(/Failed! Left to the holder of the mandate: .*haproxy\.pem$/),
    });
    expect(await lab.pem()).toBe(refused.bundlePem);
    expect(await lab.served()).toBe(lab.old.fingerprint256);

    const next = selfSigned('lb.test');
    await lab.apply(next, { by: lab.restarted() });
    expect(await lab.served()).toBe(next.fingerprint256);
    expect(await lab.pem()).toBe(next.bundlePem);
    expect(await readdir(dirname(lab.host.certPath))).toEqual(['haproxy.pem']);
  });

  describe('what cannot succeed is refused before anything is touched', () => {
    test("a bundle larger than HAProxy's buffer, and HAProxy lives on", async () => {
      const lab = await haproxyLab();
      const names = ['lb.test', ...Array.from({ length: 600 }, (_, i) => `a-rather-long-name-${i}.lb.test`)];
      const large = testCa().issue(names);
      expect(large.bundlePem.length).toBeGreaterThan(16_384);
      await expect(lab.apply(large)).rejects.toMatchObject({
        code: 'ERR_HAPROXY_PAYLOAD_TOO_LARGE',
        retry: 'never',
        remedy: expect.stringMatching(/tune\.bufsize \d+/),
      });
      await expectAsBefore(lab);
    });

    test('a key that does not fit its certificate', async () => {
      const lab = await haproxyLab();
      const next = selfSigned('lb.test');
      const pem = next.certPem + lab.old.keyPem;
      await expect(lab.apply(next, { pem })).rejects.toMatchObject({ code: 'ERR_CERTIFICATE_UNUSABLE' });
      await expectAsBefore(lab);
    });

    test.each([
      {
        what: 'the file',
        happen: async (lab: HaproxyLab) => {
          await writeFile(lab.host.certPath, selfSigned('lb.test').bundlePem, { mode: 0o600 });
        },
        reason: /haproxy\.pem has changed since the change was decided/,
      },
      {
        what: "HAProxy's memory",
        happen: async (lab: HaproxyLab) => {
          const { certPath, haproxy } = lab.host;
          const { bundlePem } = selfSigned('lb.test');
          await haproxy.command(`set ssl cert ${certPath} <<\n${bundlePem}\n`);
          await haproxy.command(`commit ssl cert ${certPath}`);
        },
        reason: /what HAProxy has in memory under .*haproxy\.pem has changed since/,
      },
      {
        what: 'the process',
        happen: async (lab: HaproxyLab) => {
          await lab.host.haproxy.stop();
          await lab.host.haproxy.start();
        },
        reason: /HAProxy was restarted or reloaded since/,
      },
    ])('a change that was decided before $what became another', async ({ happen, reason }) => {
      const lab = await haproxyLab();
      const signal = AbortSignal.timeout(5_000);
      const { haproxy, places } = await lab.haproxy.observe([lab.deployment], { signal });
      const place = places[lab.deployment.path];
      if (place === undefined || haproxy.state !== 'running') throw new Error('HAProxy should run');
      const basis = { place, worker: haproxy.worker };
      expect(basis.worker).toBeDefined();
      await happen(lab);
      const [pem, served] = [await lab.pem(), await lab.served()];

      await expect(lab.apply(selfSigned('lb.test'), { basis })).rejects.toMatchObject({
        code: 'ERR_HOST_CHANGED',
        retry: 'now',
        reason: expect.stringMatching(reason),
      });
      expect([await lab.pem(), await lab.served()]).toEqual([pem, served]);
      expect(await readdir(dirname(lab.host.certPath))).toEqual(['haproxy.pem']);
    });

    test('a path that HAProxy does not know', async () => {
      const lab = await haproxyLab();
      const path = join(dirname(lab.host.certPath), 'unknown.pem');
      await expect(
        lab.apply(selfSigned('lb.test'), { deployment: { path, file: path } }),
      ).rejects.toMatchObject({
        code: 'ERR_HAPROXY_REFUSED',
        remedy: expect.stringContaining('crt argument'),
      });
      await expectAsBefore(lab);
    });

    test("another client's transaction, until it was seen unchanged long enough to be abandoned", async () => {
      const lab = await haproxyLab();
      const foreign = selfSigned('foreign.test');
      const set = () =>
        lab.host.haproxy.command(`set ssl cert ${lab.host.certPath} <<\n${foreign.bundlePem}\n`);
      expect(await set()).toContain('Transaction created');
      const next = selfSigned('lb.test');

      const { haproxy } = await lab.haproxy.observe([lab.deployment], { signal: AbortSignal.timeout(5_000) });
      expect(haproxy).toMatchObject({ pendingTransaction: lab.host.certPath });
      await expect(lab.apply(next)).rejects.toMatchObject({
        code: 'ERR_HAPROXY_BUSY',
        retry: 'later',
        host: `lb/${lab.host.address}`,
        step: expect.stringContaining(lab.host.certPath),
        reason: expect.stringMatching(/another client|transaction/),
        remedy: expect.stringMatching(/\S/),
      });
      expect(await lab.pem()).toBe(lab.old.bundlePem);
      expect(await lab.served()).toBe(lab.old.fingerprint256);
      expect(await lab.host.haproxy.command('show ssl cert')).toContain('# transaction');

      lab.clock.advance(30_000);
      expect(await lab.apply(next)).toMatchObject({ state: 'verified' });
      expect(await lab.served()).toBe(next.fingerprint256);
    });

    test('a stats socket without level admin, with the line to add', async () => {
      const directory = await scratchDirectory(labAccount());
      onTestFinished(() => directory.remove());
      const socket = join(directory.path, 'operator.sock');
      const lab = await haproxyLab({
        host: {
          haproxy: { globalLines: [`stats socket ${socket} mode 600 level operator`] },
          sshd: { forward: [socket] },
        },
        pool: () => ({ haproxy: { socket, masterSocket: undefined } }),
      });
      await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
        code: 'ERR_HAPROXY_SOCKET',
        remedy: expect.stringContaining('level admin'),
      });
      await expectAsBefore(lab);
    });

    test.runIf(asRoot)(
      'a directory that the account cannot write to: nothing is overwritten in place',
      async () => {
        const lab = await haproxyLab();
        await chmod(dirname(lab.host.certPath), 0o500);
        await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
          code: 'ERR_HOST_NOT_WRITABLE',
          remedy: expect.stringContaining('writable'),
        });
        await expectAsBefore(lab);
      },
    );

    test.runIf(asRoot)('a full disk', async ({ skip }) => {
      const lab = await haproxyLab();
      const directory = dirname(lab.host.certPath);
      const { uid, gid } = labAccount();
      try {
        await run('mount', [
          '-t',
          'tmpfs',
          '-o',
          `size=32k,uid=${uid},gid=${gid},mode=700`,
          'kacme',
          directory,
        ]);
      } catch {
        skip('this machine does not let root mount a tmpfs');
      }
      onTestFinished(async () => void (await run('umount', [directory])));
      await writeFile(lab.host.certPath, lab.old.bundlePem, { mode: 0o600 });
      await chown(lab.host.certPath, uid, gid);
      const filler = join(directory, 'filler');
      await writeFile(filler, Buffer.alloc(28 * 1024));

      await expect(lab.apply(selfSigned('lb.test'))).rejects.toMatchObject({
        code: 'ERR_HOST_DISK_FULL',
        host: `lb/${lab.host.address}`,
        step: expect.stringContaining(directory),
        reason: expect.stringContaining('the file system is full'),
        remedy: expect.stringContaining(`free space or inodes on the file system of ${directory}`),
      });
      expect(await lab.pem()).toBe(lab.old.bundlePem);
      expect(await lab.served()).toBe(lab.old.fingerprint256);
      expect((await readdir(directory)).sort()).toEqual(['filler', 'haproxy.pem']);
    });
  });

  test.runIf(asRoot)(
    "a file of root in the account's directory is replaced, and restored by content",
    async () => {
      const lab = await haproxyLab();
      await chown(lab.host.certPath, 0, 0);
      await chmod(lab.host.certPath, 0o644);
      await expect(lab.apply(refusedAtCommit())).rejects.toMatchObject({ code: 'ERR_HAPROXY_REFUSED' });
      await expectAsBefore(lab);

      await chown(lab.host.certPath, 0, 0);
      await chmod(lab.host.certPath, 0o644);
      await lab.apply(selfSigned('lb.test'));
      expect((await stat(lab.host.certPath)).uid).toBe(labAccount().uid);
      expect(lab.logged()).toContain('cannot keep the former owner');
    },
  );

  describe('kacme dies in the middle', () => {
    // Each is the moment before or after one operation of a change, at which nothing more can be sent.
    test.each([
      { method: 'link', after: true },
      { method: 'createFile', after: true },
      { method: 'rename', after: false },
      { method: 'rename', after: true },
      { method: 'syncDirectory', after: true },
      { method: 'connectSocket', nth: 2, after: false },
      { method: 'connectSocket', nth: 3, after: false },
      { method: 'remove', after: false },
    ] as const)(
      'at $method (after: $after): the file is a whole bundle, and the next kacme finishes',
      async (at) => {
        const nth = 'nth' in at ? at.nth : 1;
        let calls = 0;
        let dead = false;
        const die = () => {
          dead = true;
          throw new Error('kacme died here');
        };
        const lab = await haproxyLab({
          wrap: (session) =>
            mortal(
              intercept(session, at.method, async (_path, proceed) => {
                calls += 1;
                if (calls === nth && !at.after) die();
                const result = await proceed();
                if (calls === nth) die();
                return result;
              }),
              () => dead,
            ),
        });
        const next = testCa().issue(['lb.test']);
        const attempt = lab.apply(next);
        // Removing the previous bundle is all that is left then: the change stands.
        if (at.method === 'remove') await attempt;
        else await expect(attempt).rejects.toThrow(/kacme (died here|is dead)/);

        expect([lab.old.bundlePem, next.bundlePem]).toContain(await lab.pem());
        expect([lab.old.fingerprint256, next.fingerprint256]).toContain(await lab.served());
        await lab.host.haproxy.stop();
        await lab.host.haproxy.start();

        const successor = lab.restarted();
        expect(await lab.apply(next, { by: successor })).toMatchObject({ state: 'verified' });
        expect(await lab.served()).toBe(next.fingerprint256);
        expect(await lab.pem()).toBe(next.bundlePem);
        expect(await readdir(dirname(lab.host.certPath))).toEqual(['haproxy.pem']);
      },
    );

    test('between rename and commit, and the next one fails: the bundle of before both is back', async () => {
      let calls = 0;
      const lab = await haproxyLab({
        wrap: (session) => {
          const broken = intercept(session, 'connectSocket', async (_path, proceed) => {
            calls += 1;
            if (calls >= 3) throw new Error('kacme died here');
            return proceed();
          });
          return mortal(broken, () => calls >= 3);
        },
        pool: () => ({ verify: { connect: ['{host}:1'], handshakes: 1, timeoutMs: 1_000 } }),
      });
      const next = testCa().issue(['lb.test']);
      await expect(lab.apply(next)).rejects.toThrow(/kacme (died here|is dead)/);
      expect(await lab.pem()).toBe(next.bundlePem);

      // The transaction that was left holds this very bundle, so it is known to be kacme's own.
      await expect(lab.apply(next, { by: lab.restarted() })).rejects.toMatchObject({
        code: 'ERR_HOST_UNVERIFIED',
      });
      await expectAsBefore(lab);
    });
  });

  /** Once `dead`, nothing reaches the host any more, as after SIGKILL. */
  function mortal(session: HostSession, dead: () => boolean): HostSession {
    return new Proxy(session, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          if (dead() && property !== 'close') throw new Error('kacme is dead');
          return Reflect.apply(value, target, args);
        };
      },
    });
  }
});
