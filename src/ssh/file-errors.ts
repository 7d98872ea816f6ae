import { dirname } from 'node:path/posix';
import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';

/** One operation on a host's files, for its errors. */
export interface FileStep {
  /** `pool/host` */
  readonly host: string;
  /** Whose permissions count, such as `the account haproxy`. */
  readonly account: string;
  /** Such as `rename /a to /b`. */
  readonly step: string;
  readonly path: string;
  readonly access: FileAccess;
}

/** What is asked of the path: `create` needs it to be free, `fill` writes into what was created, `own` changes its owner or mode. */
export type FileAccess = 'read' | 'write' | 'create' | 'fill' | 'own';

/** No bundle is larger; a file that is must be something else. */
export const READ_LIMIT_BYTES = 1024 * 1024;

export type FileProblem = 'missing' | 'denied' | 'exists' | 'full' | 'quota' | 'read-only' | 'other';

/** `words` are those of the host, for a problem that has no better ones. */
export function fileError(file: FileStep, problem: FileProblem, words: string, cause?: unknown): HostError {
  const { host, step, account, path } = file;
  const directory = dirname(path);
  const base = { host, step, retry: 'later', ...(cause === undefined ? {} : { cause }) } as const;
  switch (problem) {
    case 'missing':
      return new HostError('ERR_HOST_FILES', {
        ...base,
        reason: 'no such file or directory',
        remedy: `see that ${directory} exists on the host, as ${account} sees it`,
      });
    case 'exists':
      return new HostError('ERR_HOST_FILES', { ...base, reason: 'something is there already' });
    case 'denied':
      return new HostError(file.access === 'read' ? 'ERR_HOST_FILES' : 'ERR_HOST_NOT_WRITABLE', {
        ...base,
        retry: 'never',
        reason: `permission denied for ${account}`,
        remedy: permissionRemedy(file),
      });
    case 'full':
      return new HostError('ERR_HOST_DISK_FULL', {
        ...base,
        reason: 'the file system is full',
        remedy: `free space or inodes on the file system of ${directory}`,
      });
    case 'quota':
      return new HostError('ERR_HOST_DISK_FULL', {
        ...base,
        reason: `the file system has room, and the host does not say why it takes no more: ${words}. Most likely a quota of ${account} is exhausted`,
        remedy: `see the quota of ${account} on the file system of ${directory} (quota(1)), and raise it or free space`,
      });
    case 'read-only':
      return new HostError('ERR_HOST_NOT_WRITABLE', {
        ...base,
        retry: 'never',
        reason: 'the file system is mounted read-only',
        remedy: `mount the file system of ${directory} writable`,
      });
    case 'other':
      return new HostError('ERR_HOST_FILES', {
        ...base,
        reason: words,
        remedy: `look at ${path} on the host as ${account}, and at sshd's log there`,
      });
  }
}

function permissionRemedy({ access, account, path }: FileStep): string {
  switch (access) {
    case 'read':
      return `let ${account} read ${path} and enter the directories above it`;
    case 'own':
      return `only its owner may do that, and only root may give a file to another user: leave mode, owner and group out of the deployment, or let ${account} be the owner`;
    default:
      return `make the directory ${dirname(path)} writable for ${account} (a file is replaced by renaming, so a writable file alone is not enough)`;
  }
}

export const tooLarge = (file: FileStep): HostError =>
  fileError(file, 'other', `it is larger than ${READ_LIMIT_BYTES} bytes, which no bundle is`);

/**
 * Cleans up after a failure; resolves to the error to throw, which then says so if even that failed. Whoever has lost
 * the mandate leaves it to the next holder, who sweeps.
 */
export async function withoutLeftovers(failure: unknown, clean: () => Promise<void>): Promise<unknown> {
  try {
    await clean();
    return failure;
  } catch (error) {
    if (error instanceof KacmeError && error.code === 'ERR_MANDATE_LOST') return failure;
    const cause = new AggregateError([failure, error], 'the failure, and that of its cleanup');
    if (!(failure instanceof HostError)) return cause;
    const { code, host, step, reason, retry, remedy } = failure;
    return new HostError(code, {
      host,
      step,
      reason: `${reason}; and what was written could not be removed: ${wordsOf(error)}`,
      retry,
      remedy,
      cause,
    });
  }
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
