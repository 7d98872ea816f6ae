import type { SFTPWrapper } from 'ssh2';
import type { HostError } from '../domain/host-error.ts';
import { type FileProblem, type FileStep, fileError } from './file-errors.ts';

/** SSH_FX_* of draft-ietf-secsh-filexfer-02 section 7. */
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
const FAILURE = 4;

/** ST_RDONLY of statvfs(3) as sftp-server gives it. */
const READ_ONLY_FLAG = 1;
/** What must be free for a full disk to be ruled out as the cause of a failure. */
const ROOM_BYTES = 64 * 1024;

export const isNoSuchFile = (error: unknown): boolean => statusOf(error) === NO_SUCH_FILE;

/** undefined for an error that the SFTP server did not answer with. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : undefined;
}

/** What the host tells of a place after an operation on it failed. */
export interface PlaceFacts {
  readonly exists: boolean;
  readonly fileSystem:
    | {
        readonly f_bavail: number;
        readonly f_frsize: number;
        readonly f_favail: number;
        readonly f_flag: number;
      }
    | undefined;
}

/** SFTP version 3 says only "Failure" for a full disk, a read-only one and a taken name: the facts decide. */
function problemOf(status: number | undefined, file: FileStep, facts: PlaceFacts | undefined): FileProblem {
  if (status === NO_SUCH_FILE) return 'missing';
  if (status === PERMISSION_DENIED) return 'denied';
  if (status !== FAILURE || file.access === 'read' || facts === undefined) return 'other';
  const { fileSystem } = facts;
  if (fileSystem && (fileSystem.f_flag & READ_ONLY_FLAG) !== 0) return 'read-only';
  if (fileSystem && (fileSystem.f_bavail * fileSystem.f_frsize < ROOM_BYTES || fileSystem.f_favail === 0))
    return 'full';
  if (file.access === 'fill') return 'quota';
  return facts.exists && file.access === 'create' ? 'exists' : 'other';
}

/** "Failure" is all that a server says when a quota is exhausted, or a link goes to another file system. */
export function sftpError(file: FileStep, error: Error, facts: PlaceFacts | undefined): HostError {
  const status = statusOf(error);
  const words =
    status === FAILURE
      ? file.access === 'fill'
        ? 'the SFTP server says only "Failure"'
        : 'the SFTP server says only "Failure": a quota, another file system, or not the kind of file expected'
      : error.message;
  return fileError(file, problemOf(status, file, facts), words, error);
}

export type Extension = 'fsync@openssh.com' | 'hardlink@openssh.com' | 'posix-rename@openssh.com';

/** ssh2 throws, with nothing to tell it by, when the server did not announce an extension. */
export function requireExtension(extension: Extension, call: () => void): void {
  try {
    call();
  } catch (cause) {
    throw new Error(
      `the SFTP server lacks ${extension}, without which a file cannot be replaced safely: use OpenSSH's (6.5 or newer)`,
      { cause },
    );
  }
}

/** Never fails: what the host does not tell is left out. */
export function gatherFacts(
  sftp: SFTPWrapper,
  path: string,
  directory: string,
  done: (facts: PlaceFacts) => void,
): void {
  sftp.lstat(path, (missing) => {
    const exists = !missing;
    const without = () => done({ exists, fileSystem: undefined });
    try {
      sftp.ext_openssh_statvfs(directory, (error, fileSystem) =>
        error ? without() : done({ exists, fileSystem }),
      );
    } catch {
      without(); // no statvfs@openssh.com
    }
  });
}
