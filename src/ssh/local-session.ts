import * as fs from 'node:fs/promises';
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { HostError } from '../domain/host-error.ts';
import type { HostSpec, PoolSpec } from '../domain/model.ts';
import type { CommandOptions, CommandResult, FileStat, HostSession } from '../ports/host-session.ts';
import type { EffectOptions, Mandate } from '../ports/leadership.ts';
import { bounded } from './bounded.ts';
import { explainErrno, unlessMissing } from './errno.ts';
import {
  type FileAccess,
  type FileStep,
  READ_LIMIT_BYTES,
  tooLarge,
  withoutLeftovers,
} from './file-errors.ts';
import { hostLabel } from './host-label.ts';
import { runLocalCommand } from './local-command.ts';
import { DIRECT } from './tcp.ts';

interface Cancellable {
  readonly signal: AbortSignal;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** This very machine, for a kacme that shares volumes with HAProxy (`local: true`). */
export class LocalSession implements HostSession {
  readonly #host: string;
  readonly #account: string;
  readonly #closed = new AbortController();

  constructor(pool: PoolSpec, host: HostSpec) {
    this.#host = hostLabel(pool, host);
    this.#account = `kacme (uid ${process.getuid?.() ?? 'unknown'})`;
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  async close(): Promise<void> {
    this.#closed.abort(
      new HostError('ERR_ABORTED', {
        host: this.#host,
        step: 'session',
        reason: 'it was closed by kacme',
        retry: 'later',
      }),
    );
  }

  stat(path: string, { signal }: Cancellable): Promise<FileStat | undefined> {
    return this.#run('read', `stat ${path}`, path, { signal }, async () => {
      const stats = await unlessMissing(fs.stat(path));
      if (stats === undefined) return undefined;
      const { mode, uid, gid, size, mtimeMs } = stats;
      const type = stats.isFile() ? 'file' : stats.isDirectory() ? 'directory' : 'other';
      return { mode: mode & 0o7777, uid, gid, size, mtimeMs, type };
    });
  }

  readFile(path: string, { signal }: Cancellable): Promise<Buffer | undefined> {
    return this.#run('read', `read ${path}`, path, { signal }, async (file) => {
      const handle = await unlessMissing(fs.open(path, 'r'));
      if (handle === undefined) return undefined;
      try {
        if ((await handle.stat()).size > READ_LIMIT_BYTES) throw tooLarge(file);
        return await handle.readFile({ signal });
      } finally {
        await handle.close();
      }
    });
  }

  readDirectory(path: string, { signal }: Cancellable): Promise<readonly string[]> {
    return this.#run('read', `list ${path}`, path, { signal }, () => fs.readdir(path));
  }

  createFile(path: string, content: Buffer, { signal, mandate }: EffectOptions): Promise<void> {
    return this.#run('create', `create ${path}`, path, { signal, mandate }, async (file) => {
      // 0600 from the first byte: the content may be a private key.
      const handle = await fs.open(path, 'wx', 0o600);
      try {
        try {
          mandate.assertHeld();
          await handle.writeFile(content, { signal });
          await handle.sync();
        } finally {
          await handle.close();
        }
      } catch (error) {
        throw await withoutLeftovers(explainErrno(file, error), async () => {
          mandate.assertHeld();
          await fs.rm(path, { force: true });
        });
      }
    });
  }

  link(existing: string, path: string, options: EffectOptions): Promise<void> {
    return this.#run('create', `link ${existing} as ${path}`, path, options, () => fs.link(existing, path));
  }

  rename(from: string, to: string, options: EffectOptions): Promise<void> {
    return this.#run('write', `rename ${from} to ${to}`, to, options, () => fs.rename(from, to));
  }

  remove(path: string, options: EffectOptions): Promise<void> {
    return this.#run('write', `remove ${path}`, path, options, () => unlessMissing(fs.unlink(path)));
  }

  setMode(path: string, mode: number, options: EffectOptions): Promise<void> {
    return this.#run('own', `set the mode of ${path}`, path, options, () => fs.chmod(path, mode));
  }

  setOwner(path: string, uid: number, gid: number, options: EffectOptions): Promise<void> {
    return this.#run('own', `give ${path} to ${uid}:${gid}`, path, options, () => fs.chown(path, uid, gid));
  }

  syncDirectory(path: string, { signal }: Cancellable): Promise<void> {
    return this.#run('read', `sync the directory ${path}`, path, { signal }, async () => {
      const handle = await fs.open(path, 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }

  connectTcp(
    _from: 'host' | 'jump',
    endpoint: { readonly address: string; readonly port: number },
    { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
  ): Promise<Duplex> {
    const target = { ...endpoint, label: this.#host, name: this.#host, connectTimeoutMs: timeoutMs };
    return DIRECT.connect(target, { signal, timeoutMs });
  }

  async connectSocket(path: string, { signal }: Cancellable): Promise<Duplex> {
    const step = `connect to the socket ${path}`;
    const refused = (reason: string, cause?: Error) =>
      new HostError('ERR_HAPROXY_SOCKET', {
        host: this.#host,
        step,
        reason,
        retry: 'later',
        remedy: `see that HAProxy runs with "stats socket ${path} level admin", and that ${this.#account} may write to it`,
        ...(cause === undefined ? {} : { cause }),
      });
    const socket = createConnection(path);
    try {
      await bounded<void>(
        (done) => {
          socket.once('error', done);
          socket.once('connect', () => done(undefined));
        },
        {
          until: [signal, this.closed],
          timeoutMs: CONNECT_TIMEOUT_MS,
          onTimeout: () => refused(`no answer within ${CONNECT_TIMEOUT_MS} ms`),
        },
      );
    } catch (error) {
      socket.destroy();
      if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
      throw refused(error.message, error);
    }
    const end = () => socket.destroy(this.closed.reason);
    this.closed.addEventListener('abort', end);
    socket.once('close', () => this.closed.removeEventListener('abort', end));
    return socket;
  }

  async run(argv: readonly string[], options: CommandOptions): Promise<CommandResult> {
    this.closed.throwIfAborted();
    return runLocalCommand(this.#host, argv, options);
  }

  /** system calls cannot be taken back: a signal is looked at before, and where node:fs takes one. */
  async #run<T>(
    access: FileAccess,
    step: string,
    path: string,
    { signal, mandate }: Cancellable & { readonly mandate?: Mandate },
    call: (file: FileStep) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    this.closed.throwIfAborted();
    mandate?.assertHeld();
    const file: FileStep = { host: this.#host, account: this.#account, step, path, access };
    try {
      return await call(file);
    } catch (error) {
      signal.throwIfAborted();
      throw explainErrno(file, error);
    }
  }
}
