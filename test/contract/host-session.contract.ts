import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, mkdir, readdir, readFile, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { HostError } from '../../src/domain/host-error.ts';
import type { HostSession } from '../../src/ports/host-session.ts';
import type { EffectOptions } from '../../src/ports/leadership.ts';
import { heldMandate } from '../support/mandate.ts';
import { giveTo } from '../support/ownership.ts';
import { labAccount } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';

export interface Transport extends AsyncDisposable {
  open(options: { signal: AbortSignal }): Promise<HostSession>;
}

export interface TransportKind {
  readonly name: string;
  /** `forward`: the sockets that the account may reach. */
  start(forward: readonly string[]): Promise<Transport>;
  /** Whether the account may run commands. */
  readonly commands: boolean;
  /** A directory that is writable for nobody; `directory` is one of the account, to make it in. */
  lockedDirectory(directory: string): Promise<string>;
}

const signal = new AbortController().signal;
const effect: EffectOptions = { signal, mandate: heldMandate() };

/** What every way into a host must do; paths are the same on both sides, since everything is one machine. */
export function describeHostSession({ name, start, commands, lockedDirectory }: TransportKind): void {
  describe(name, () => {
    const account = labAccount();
    let root: Awaited<ReturnType<typeof scratchDirectory>>;
    let transport: Transport;
    let echo: Server;
    let session: HostSession;
    let directory: string;
    const at = (file: string) => join(directory, file);

    beforeAll(async () => {
      root = await scratchDirectory(account);
      const socket = join(root.path, 'echo.sock');
      echo = createServer({ allowHalfOpen: true }, (connection) => connection.pipe(connection));
      await once(echo.listen(socket), 'listening');
      await giveTo(account, root.path);
      transport = await start([socket, join(root.path, 'missing.sock')]);
    });
    afterAll(async () => {
      await transport[Symbol.asyncDispose]();
      echo.close();
      await root.remove();
    });
    beforeEach(async ({ task }) => {
      directory = join(root.path, task.id.replaceAll(/\W/g, '').slice(-12));
      await mkdir(directory);
      await giveTo(account, directory);
      session = await transport.open({ signal });
    });
    afterEach(() => session.close());

    const put = async (file: string, content: string) => {
      await writeFile(at(file), content);
      await giveTo(account, directory);
    };

    describe('a file', () => {
      test('is created as 0600 with its whole content', async () => {
        const content = randomBytes(700_000);
        await session.createFile(at('bundle.pem'), content, effect);
        expect(content.equals(await readFile(at('bundle.pem')))).toBe(true);
        expect((await stat(at('bundle.pem'))).mode & 0o7777).toBe(0o600);
        expect(
          content.equals((await session.readFile(at('bundle.pem'), { signal })) ?? Buffer.alloc(0)),
        ).toBe(true);
      });

      test('may be empty', async () => {
        await session.createFile(at('empty'), Buffer.alloc(0), effect);
        expect(await session.readFile(at('empty'), { signal })).toEqual(Buffer.alloc(0));
      });

      test('is never overwritten by creating it', async () => {
        await put('bundle.pem', 'old');
        await expect(session.createFile(at('bundle.pem'), Buffer.from('new'), effect)).rejects.toMatchObject({
          code: 'ERR_HOST_FILES',
          message: expect.stringMatching(/: create .*bundle\.pem: something is there already$/),
        });
        expect(await readFile(at('bundle.pem'), 'utf8')).toBe('old');
      });

      test('that is missing reads as undefined, and so does its stat', async () => {
        expect(await session.readFile(at('missing'), { signal })).toBeUndefined();
        expect(await session.stat(at('missing'), { signal })).toBeUndefined();
        expect(await session.stat(at('missing/below'), { signal })).toBeUndefined();
      });

      test('of more than 1 MiB is refused', async () => {
        await put('huge', 'x'.repeat(1024 * 1024 + 1));
        await expect(session.readFile(at('huge'), { signal })).rejects.toThrow(/larger than 1048576 bytes/);
        await put('large', 'x'.repeat(1024 * 1024));
        expect(await session.readFile(at('large'), { signal })).toHaveLength(1024 * 1024);
      });

      test('has a stat, through a symbolic link too', async () => {
        await put('file', 'four');
        await chmod(at('file'), 0o640);
        await utimes(at('file'), 1_700_000_001, 1_700_000_002);
        await symlink('file', at('link'));
        for (const path of [at('file'), at('link')]) {
          expect(await session.stat(path, { signal })).toEqual({
            mode: 0o640,
            uid: account.uid,
            gid: account.gid,
            size: 4,
            mtimeMs: 1_700_000_002_000,
            type: 'file',
          });
        }
        expect(await session.stat(directory, { signal })).toMatchObject({ type: 'directory' });
        expect(await session.stat(join(root.path, 'echo.sock'), { signal })).toMatchObject({ type: 'other' });
      });

      test('is hard-linked, and never over another', async () => {
        await put('file', 'content');
        await session.link(at('file'), at('prev'), effect);
        expect((await stat(at('prev'))).ino).toBe((await stat(at('file'))).ino);
        await put('other', 'other');
        await expect(session.link(at('other'), at('prev'), effect)).rejects.toMatchObject({
          code: 'ERR_HOST_FILES',
          reason: 'something is there already',
        });
      });

      test('replaces another by renaming', async () => {
        await put('new', 'new');
        await put('file', 'old');
        await session.rename(at('new'), at('file'), effect);
        expect(await readFile(at('file'), 'utf8')).toBe('new');
        expect(await readdir(directory)).toEqual(['file']);
      });

      test('that is missing cannot be renamed', async () => {
        await expect(session.rename(at('missing'), at('file'), effect)).rejects.toMatchObject({
          code: 'ERR_HOST_FILES',
          reason: 'no such file or directory',
        });
      });

      test('is removed, as often as one likes', async () => {
        await put('file', '');
        await session.remove(at('file'), effect);
        await session.remove(at('file'), effect);
        expect(await readdir(directory)).toEqual([]);
      });

      test('takes a mode and an owner', async () => {
        await put('file', '');
        await session.setMode(at('file'), 0o440, effect);
        await session.setOwner(at('file'), account.uid, account.gid, effect);
        expect(await session.stat(at('file'), { signal })).toMatchObject({ mode: 0o440, uid: account.uid });
      });
    });

    describe('a directory', () => {
      test('is listed without . and ..', async () => {
        await put('b', '');
        await put('.hidden', '');
        expect([...(await session.readDirectory(directory, { signal }))].sort()).toEqual(['.hidden', 'b']);
      });

      test('is synced', async () => {
        await session.syncDirectory(directory, { signal });
      });

      test('that is missing is an error that names it', async () => {
        for (const attempt of [
          () => session.readDirectory(at('none'), { signal }),
          () => session.syncDirectory(at('none'), { signal }),
          () => session.createFile(at('none/file'), Buffer.from('x'), effect),
        ]) {
          await expect(attempt()).rejects.toMatchObject({
            code: 'ERR_HOST_FILES',
            message: expect.stringContaining(at('none')),
          });
        }
      });

      test('that is not writable refuses a new file, and the remedy names it', async () => {
        const locked = await lockedDirectory(directory);
        const attempt = session.createFile(join(locked, 'file'), Buffer.from('x'), effect);
        await expect(attempt).rejects.toBeInstanceOf(HostError);
        await expect(attempt).rejects.toMatchObject({
          code: 'ERR_HOST_NOT_WRITABLE',
          retry: 'never',
          remedy: expect.stringContaining(locked),
        });
      });
    });

    describe('a socket', () => {
      test('carries bytes both ways until its end', async () => {
        const content = randomBytes(300_000).toString('hex');
        const socket = await session.connectSocket(join(root.path, 'echo.sock'), { signal });
        socket.end(content);
        expect(await text(socket)).toBe(content);
      });

      test('gives its last bytes to a slow reader after the other side has closed', async () => {
        const socket = await session.connectSocket(join(root.path, 'echo.sock'), { signal });
        await new Promise<void>((resolve) => socket.end('last words', resolve));
        await once(socket, 'readable');
        expect(await text(socket)).toBe('last words');
      });

      test('that is missing is an error with a remedy', async () => {
        await expect(
          session.connectSocket(join(root.path, 'missing.sock'), { signal }),
        ).rejects.toMatchObject({
          code: 'ERR_HAPROXY_SOCKET',
          retry: 'later',
          message: expect.stringContaining(`connect to the socket ${join(root.path, 'missing.sock')}`),
          remedy: expect.stringContaining('stats socket'),
        });
      });

      test('ends with the session, as an error', async () => {
        const socket = await session.connectSocket(join(root.path, 'echo.sock'), { signal });
        const failed = once(socket, 'error');
        await session.close();
        expect((await failed)[0]).toMatchObject({ code: 'ERR_ABORTED' });
      });
    });

    describe.runIf(commands)('a command', () => {
      const bounded = { ...effect, timeoutMs: 10_000 };

      test('gets its arguments as they are, whatever a shell would make of them', async () => {
        const args = ['a b', "it's", '$HOME', '`id`', '"', '\\', ';', '*', '', '-n', 'ü', 'A=b', '#'];
        const { status, output } = await session.run(['printf', '<%s>\\n', ...args], bounded);
        expect(output).toBe(args.map((arg) => `<${arg}>`).join('\n'));
        expect(status).toBe(0);
      });

      test('that fails tells its status, and what it said on either stream', async () => {
        const script = 'echo out; echo err >&2; exit 3';
        const { status, output } = await session.run(['sh', '-c', script], bounded);
        expect(status).toBe(3);
        expect(output.split('\n').sort()).toEqual(['err', 'out']);
      });

      test('that says much is heard to the end, and its last words are kept', async () => {
        const script = 'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done';
        const { output } = await session.run(['sh', '-c', script], bounded);
        expect(output).toMatch(/line 19999$/);
        expect(output.length).toBeLessThan(10_000);
      });

      test('that a signal ends is no success', async () => {
        const { status } = await session.run(['sh', '-c', 'kill -KILL $$'], bounded);
        // The account's shell may stand between, and tells it as 128 + 9.
        expect([undefined, 137]).toContain(status);
      });

      test('that does not exist is an error or a status, and never a success', async () => {
        const outcome = await session.run([at('missing')], bounded).catch((error: unknown) => error);
        expect(outcome).not.toMatchObject({ status: 0 });
      });

      test('that does not end is given up, with its name in the error', async () => {
        await expect(session.run(['sleep', '100'], { ...effect, timeoutMs: 200 })).rejects.toMatchObject({
          code: 'ERR_HOST_COMMAND',
          step: 'run sleep 100',
          reason: expect.stringContaining('it did not end within 200 ms'),
        });
      });

      test('is not begun once the caller gave up, or the mandate is lost', async () => {
        const reason = new Error('the operator pressed Ctrl-C');
        const touch = ['touch', at('file')];
        await expect(session.run(touch, { ...bounded, signal: AbortSignal.abort(reason) })).rejects.toBe(
          reason,
        );
        const mandate = heldMandate();
        mandate.lose();
        await expect(session.run(touch, { ...bounded, mandate })).rejects.toMatchObject({
          code: 'ERR_MANDATE_LOST',
        });
        expect(await readdir(directory)).toEqual([]);
      });
    });

    describe.runIf(!commands)('a command', () => {
      test('that sshd replaces by sftp-server is an error that says so', async () => {
        await expect(
          session.run(['touch', at('file')], { ...effect, timeoutMs: 10_000 }),
        ).rejects.toMatchObject({
          code: 'ERR_HOST_COMMAND',
          reason: expect.stringContaining('nothing but SFTP'),
          remedy: expect.stringContaining('masterSocket'),
        });
        expect(await readdir(directory)).toEqual([]);
      });
    });

    test('an aborted signal ends every call with its reason, and leaves nothing behind', async () => {
      const reason = new Error('the operator pressed Ctrl-C');
      const aborted = { ...effect, signal: AbortSignal.abort(reason) };
      await expect(session.createFile(at('file'), Buffer.from('x'), aborted)).rejects.toBe(reason);
      await expect(session.stat(at('file'), aborted)).rejects.toBe(reason);
      await expect(session.connectSocket(join(root.path, 'echo.sock'), aborted)).rejects.toBe(reason);
      expect(await readdir(directory)).toEqual([]);
    });

    test('a lost mandate lets no change out', async () => {
      await put('file', 'content');
      const mandate = heldMandate();
      mandate.lose();
      const deposed = { signal, mandate };
      for (const attempt of [
        () => session.createFile(at('new'), Buffer.from('x'), deposed),
        () => session.link(at('file'), at('new'), deposed),
        () => session.rename(at('file'), at('new'), deposed),
        () => session.remove(at('file'), deposed),
        () => session.setMode(at('file'), 0o400, deposed),
        () => session.setOwner(at('file'), account.uid, account.gid, deposed),
      ]) {
        await expect(attempt()).rejects.toMatchObject({ code: 'ERR_MANDATE_LOST' });
      }
      expect(await readdir(directory)).toEqual(['file']);
      expect((await stat(at('file'))).mode & 0o7777).not.toBe(0o400);
    });

    test('a file is not written once the mandate is lost, and is left for the next holder to sweep', async () => {
      const held = heldMandate();
      let asked = 0;
      const assertHeld = () => {
        asked += 1;
        if (asked > 1) held.lose();
        held.assertHeld();
      };
      const creating = session.createFile(at('new'), Buffer.from('x'), {
        signal,
        mandate: { ...held, assertHeld },
      });
      await expect(creating).rejects.toMatchObject({ code: 'ERR_MANDATE_LOST' });
      expect(await readFile(at('new'), 'utf8')).toBe('');
    });

    test('a file that was being created when the caller gave up is removed', async () => {
      const caller = new AbortController();
      const creating = session.createFile(at('file'), randomBytes(32 * 1024 * 1024), {
        ...effect,
        signal: caller.signal,
      });
      caller.abort(new Error('enough'));
      await expect(creating).rejects.toThrow('enough');
      await session.stat(directory, { signal }); // answered after what was sent before
      expect(await readdir(directory)).toEqual([]);
    });

    test('many calls side by side do not disturb each other', async () => {
      const names = Array.from({ length: 40 }, (_, i) => `file-${i}`);
      await Promise.all(names.map((file) => session.createFile(at(file), Buffer.from(file), effect)));
      const contents = await Promise.all(names.map((file) => session.readFile(at(file), { signal })));
      expect(contents.map(String)).toEqual(names);
    });

    test('closed tells that the session has ended, and calls after it fail', async () => {
      expect(session.closed.aborted).toBe(false);
      await session.close();
      expect(session.closed.reason).toMatchObject({ code: 'ERR_ABORTED' });
      await expect(session.stat(directory, { signal })).rejects.toBe(session.closed.reason);
      await session.close();
    });
  });
}

/** A directory that an unprivileged account can read only. */
export async function readOnlyDirectory(directory: string): Promise<string> {
  const locked = join(directory, 'locked');
  await mkdir(locked);
  if (process.getuid?.() === 0) await chown(locked, 0, 0);
  await chmod(locked, 0o555);
  return locked;
}
