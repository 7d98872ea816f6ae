import type { Duplex } from 'node:stream';
import type { ClientChannel, FileEntryWithStats, Stats } from 'ssh2';
import { HostError } from '../domain/host-error.ts';
import type { CommandOptions, CommandResult, FileStat, HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { bounded } from './bounded.ts';
import type { SshConnection } from './connection.ts';
import {
  type FileAccess,
  type FileStep,
  READ_LIMIT_BYTES,
  tooLarge,
  withoutLeftovers,
} from './file-errors.ts';
import { type ForwardTarget, forwardTcp } from './forward-tcp.ts';
import { ForwardedSocket } from './forwarded-socket.ts';
import { runRemoteCommand } from './remote-command.ts';
import { isNoSuchFile, requireExtension } from './sftp-errors.ts';
import { SftpRequests, type SftpServer } from './sftp-requests.ts';

interface Cancellable {
  readonly signal: AbortSignal;
}

/** A connection from the last jump host; from here when there is none. */
type FromJump = (to: ForwardTarget, options: { signal: AbortSignal; timeoutMs: number }) => Promise<Duplex>;

const CLEANUP_TIMEOUT_MS = 5_000;
/** A bundle fits; to take what fits any file for each of many hosts would be most of the memory of this process. */
const FIRST_CHUNK_BYTES = 8 * 1024;
const CHUNK_BYTES = 64 * 1024;

/** A host reached over SSH: SFTP for its files, forwarding for its sockets; a command runs there only when one is asked for. */
export class SshSession implements HostSession {
  readonly #connection: SshConnection;
  readonly #sftp: SftpRequests;
  readonly #fromJump: FromJump;

  constructor(
    connection: SshConnection,
    { fromJump, ...server }: SftpServer & { readonly fromJump: FromJump },
  ) {
    this.#connection = connection;
    this.#fromJump = fromJump;
    this.#sftp = new SftpRequests(connection, server);
  }

  get closed(): AbortSignal {
    return this.#connection.closed;
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async stat(path: string, { signal }: Cancellable): Promise<FileStat | undefined> {
    const stats = await this.#sftp.call<Stats | undefined>(
      this.#step('read', `stat ${path}`, path),
      (sftp, done) =>
        sftp.stat(path, (error, found) => (isNoSuchFile(error) ? done(undefined) : done(error, found))),
      { signal },
    );
    if (stats === undefined) return undefined;
    const { mode, uid, gid, size, mtime } = stats;
    const type = stats.isFile() ? 'file' : stats.isDirectory() ? 'directory' : 'other';
    return { mode: mode & 0o7777, uid, gid, size, mtimeMs: mtime * 1_000, type };
  }

  async readFile(path: string, { signal }: Cancellable): Promise<Buffer | undefined> {
    const file = this.#step('read', `read ${path}`, path);
    const handle = await this.#openToRead(file, { signal });
    if (handle === undefined) return undefined;
    const chunks: Buffer[] = [];
    let position = 0;
    try {
      for (let bytes = -1, length = FIRST_CHUNK_BYTES; bytes !== 0; ) {
        if (bytes === length) length = CHUNK_BYTES;
        const chunk = Buffer.allocUnsafe(length);
        bytes = await this.#sftp.call<number>(
          file,
          (sftp, done) => sftp.read(handle, chunk, 0, chunk.length, position, done),
          { signal },
        );
        chunks.push(chunk.subarray(0, bytes));
        position += bytes;
        if (position > READ_LIMIT_BYTES) throw tooLarge(file);
      }
    } finally {
      this.#letGo(file, handle);
    }
    return Buffer.concat(chunks);
  }

  async readDirectory(path: string, { signal }: Cancellable): Promise<readonly string[]> {
    const entries = await this.#sftp.call<readonly FileEntryWithStats[]>(
      this.#step('read', `list ${path}`, path),
      (sftp, done) => sftp.readdir(path, done),
      { signal },
    );
    return entries.map(({ filename }) => filename);
  }

  async createFile(path: string, content: Buffer, { signal, mandate }: EffectOptions): Promise<void> {
    const file = this.#step('create', `create ${path}`, path);
    const clean = () => this.remove(path, { signal: AbortSignal.timeout(CLEANUP_TIMEOUT_MS), mandate });
    const handle = await this.#sftp.call<Buffer>(
      file,
      // 0600 from the first byte: the content may be a private key.
      (sftp, done) => sftp.open(path, 'wx', { mode: 0o600 }, done),
      {
        signal,
        mandate,
        release: (late) => {
          this.#letGo(file, late);
          void clean().catch(ignoreResult);
        },
      },
    );
    // A full disk or quota is told by any of these.
    const filling = this.#step('fill', file.step, path);
    try {
      await this.#sftp.call<void>(
        filling,
        (sftp, done) => sftp.write(handle, content, 0, content.length, 0, (error) => done(error)),
        { signal, mandate },
      );
      await this.#fsync(filling, handle, { signal });
      await this.#sftp.call<void>(filling, (sftp, done) => sftp.close(handle, done), { signal });
    } catch (error) {
      // Over a lost connection nothing can be removed: whoever comes next sweeps what was left.
      if (this.closed.aborted) throw error;
      this.#letGo(file, handle);
      throw await withoutLeftovers(error, clean);
    }
  }

  link(existing: string, path: string, options: EffectOptions): Promise<void> {
    return this.#sftp.call<void>(
      this.#step('create', `link ${existing} as ${path}`, path),
      (sftp, done) =>
        requireExtension('hardlink@openssh.com', () => sftp.ext_openssh_hardlink(existing, path, done)),
      options,
    );
  }

  rename(from: string, to: string, options: EffectOptions): Promise<void> {
    return this.#sftp.call<void>(
      this.#step('write', `rename ${from} to ${to}`, to),
      (sftp, done) =>
        requireExtension('posix-rename@openssh.com', () => sftp.ext_openssh_rename(from, to, done)),
      options,
    );
  }

  remove(path: string, options: EffectOptions): Promise<void> {
    return this.#sftp.call<void>(
      this.#step('write', `remove ${path}`, path),
      (sftp, done) => sftp.unlink(path, (error) => done(isNoSuchFile(error) ? undefined : error)),
      options,
    );
  }

  setMode(path: string, mode: number, options: EffectOptions): Promise<void> {
    return this.#sftp.call<void>(
      this.#step('own', `set the mode of ${path}`, path),
      (sftp, done) => sftp.chmod(path, mode, done),
      options,
    );
  }

  setOwner(path: string, uid: number, gid: number, options: EffectOptions): Promise<void> {
    return this.#sftp.call<void>(
      this.#step('own', `give ${path} to ${uid}:${gid}`, path),
      (sftp, done) => sftp.chown(path, uid, gid, done),
      options,
    );
  }

  /** OpenSSH's server opens a directory for reading as open(2) does, and fsyncs it. */
  async syncDirectory(path: string, { signal }: Cancellable): Promise<void> {
    const file = this.#step('read', `sync the directory ${path}`, path);
    const handle = await this.#sftp.call<Buffer>(file, (sftp, done) => sftp.open(path, 'r', done), {
      signal,
      release: (late, sftp) => sftp.close(late, ignoreResult),
    });
    try {
      await this.#fsync(file, handle, { signal });
    } finally {
      this.#letGo(file, handle);
    }
  }

  async connectSocket(path: string, { signal }: Cancellable): Promise<Duplex> {
    const step = `connect to the socket ${path}`;
    try {
      const channel = await bounded<ClientChannel>(
        (done) => this.#connection.client.openssh_forwardOutStreamLocal(path, done),
        { ...this.#sftp.bounds(step, { signal }), release: (late) => late.close() },
      );
      return new ForwardedSocket(channel, this.#connection);
    } catch (error) {
      if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
      const { account, host } = this.#sftp;
      throw new HostError('ERR_HAPROXY_SOCKET', {
        host,
        step,
        reason: `sshd did not connect it (${error.message}): nothing listens there, or ${account} may not open it, or sshd denies the forwarding; it does not tell which`,
        retry: 'later',
        remedy: `see that HAProxy runs with "stats socket ${path} level admin", that ${account} may write to it, and that sshd_config has AllowTcpForwarding local, AllowStreamLocalForwarding local and PermitOpen [${path}]:* for it`,
        cause: error,
      });
    }
  }

  connectTcp(
    from: 'host' | 'jump',
    endpoint: { readonly address: string; readonly port: number },
    options: { signal: AbortSignal; timeoutMs: number },
  ): Promise<Duplex> {
    const target = { ...endpoint, label: this.#sftp.host, listener: 'HAProxy' };
    return from === 'host' ? forwardTcp(target, this.#connection, options) : this.#fromJump(target, options);
  }

  run(argv: readonly string[], options: CommandOptions): Promise<CommandResult> {
    return runRemoteCommand(this.#connection, this.#sftp, argv, options);
  }

  #openToRead(file: FileStep, { signal }: Cancellable): Promise<Buffer | undefined> {
    return this.#sftp.call<Buffer | undefined>(
      file,
      (sftp, done) =>
        sftp.open(file.path, 'r', (error, handle) =>
          isNoSuchFile(error) ? done(undefined) : done(error, handle),
        ),
      {
        signal,
        release: (late, sftp) => {
          if (late) sftp.close(late, ignoreResult);
        },
      },
    );
  }

  #fsync(file: FileStep, handle: Buffer, { signal }: Cancellable): Promise<void> {
    return this.#sftp.call<void>(
      file,
      (sftp, done) => requireExtension('fsync@openssh.com', () => sftp.ext_openssh_fsync(handle, done)),
      { signal },
    );
  }

  /** Closes a handle whose closing has nothing more to tell; nobody needs to wait for it. */
  #letGo(file: FileStep, handle: Buffer): void {
    if (this.closed.aborted) return;
    void this.#sftp
      .call<void>(file, (sftp, done) => sftp.close(handle, () => done(undefined)), {
        signal: AbortSignal.timeout(CLEANUP_TIMEOUT_MS),
      })
      .catch(ignoreResult);
  }

  #step(access: FileAccess, step: string, path: string): FileStep {
    const { host, account } = this.#sftp;
    return { host, account, step, path, access };
  }
}

const ignoreResult = (): void => {};
