import type { Duplex } from 'node:stream';
import type { HostSpec, PoolSpec } from '../domain/model.ts';
import type { EffectOptions } from './leadership.ts';

export interface FileStat {
  /** Permission bits only. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Last change of the content, milliseconds since 1970; SFTP tells whole seconds. */
  readonly mtimeMs: number;
  readonly type: 'file' | 'directory' | 'other';
}

/** How a command ended, and what it said. */
export interface CommandResult {
  /** Undefined when a signal ended it. */
  readonly status: number | undefined;
  /** The last 8 kB of stdout and stderr, as they came. */
  readonly output: string;
}

export interface CommandOptions extends EffectOptions {
  /** Bound of the whole command. */
  readonly timeoutMs: number;
}

/**
 * An authenticated way into one host: its files, its UNIX sockets and its commands, whatever carries them. All methods throw
 * `ERR_HOST_*`; those that change a file look at the mandate immediately before each thing they send and throw
 * `ERR_MANDATE_LOST`. Paths are absolute.
 */
export interface HostSession {
  /** undefined when nothing is there. Follows symbolic links. */
  stat(path: string, options: { signal: AbortSignal }): Promise<FileStat | undefined>;
  /** undefined when nothing is there; refuses more than 1 MiB. */
  readFile(path: string, options: { signal: AbortSignal }): Promise<Buffer | undefined>;
  readDirectory(path: string, options: { signal: AbortSignal }): Promise<readonly string[]>;
  /** Creates `path`, which must not exist, as 0600 from the first byte, writes and fsyncs it. */
  createFile(path: string, content: Buffer, options: EffectOptions): Promise<void>;
  /** Hard link; `path` must not exist. */
  link(existing: string, path: string, options: EffectOptions): Promise<void>;
  /** Atomic replacement: `to` may exist (posix-rename@openssh.com). */
  rename(from: string, to: string, options: EffectOptions): Promise<void>;
  /** Succeeds when nothing is there. */
  remove(path: string, options: EffectOptions): Promise<void>;
  setMode(path: string, mode: number, options: EffectOptions): Promise<void>;
  setOwner(path: string, uid: number, gid: number, options: EffectOptions): Promise<void>;
  /** Makes a rename or link in this directory durable. */
  syncDirectory(path: string, options: { signal: AbortSignal }): Promise<void>;
  /** A connection to a UNIX stream socket on the host. Throws `ERR_HAPROXY_SOCKET` when there is none. */
  connectSocket(path: string, options: { signal: AbortSignal }): Promise<Duplex>;
  /**
   * A TCP connection that starts on the host itself or on its last jump host; on this machine for a local session. Throws
   * `ERR_HOST_UNREACHABLE` when it may not or cannot be made, and when `timeoutMs` have passed.
   */
  connectTcp(
    from: 'host' | 'jump',
    endpoint: { readonly address: string; readonly port: number },
    options: { signal: AbortSignal; timeoutMs: number },
  ): Promise<Duplex>;
  /**
   * Runs a program with exactly these arguments, whatever a shell would make of them. Resolves also when it fails; throws
   * `ERR_HOST_COMMAND` when it does not end in time or cannot be run, as by an account that sshd gives nothing but SFTP.
   */
  run(argv: readonly string[], options: CommandOptions): Promise<CommandResult>;
  /** Aborts when the session is gone; its reason says why. */
  readonly closed: AbortSignal;
  close(): Promise<void>;
}

/** Opens sessions, over SSH or on this machine. Throws `ERR_HOST_*`. */
export type OpenHostSession = (
  pool: PoolSpec,
  host: HostSpec,
  options: { signal: AbortSignal },
) => Promise<HostSession>;
