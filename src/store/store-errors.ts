import { KacmeError } from '../domain/errors.ts';

export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return (
    error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
  );
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'free space on that file system',
  EDQUOT: 'raise the disk quota of the account kacme runs as',
  EROFS: 'mount that file system writable',
  EACCES: 'run kacme as the owner of the store, or change the owner of the directory',
  EPERM: 'run kacme as the owner of the store, or change the owner of the directory',
  EIO: 'check the disk (dmesg), then restore the store from a back-up if files are lost',
  ENOTDIR: 'set store.file to a path below a directory: something in it is a file',
  EEXIST: 'move what is there away, or set store.file to another path',
  ENOENT: 'set store.file to a path where directories can be made',
  EMFILE: 'raise the limit of open files (ulimit -n)',
};

/** Wraps what the operating system said: `cannot <attempt>: EACCES: permission denied, open '...'`. */
export function unusable(attempt: string, cause: unknown): KacmeError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const remedy = REMEDIES[code];
  return new KacmeError('ERR_STORE_UNUSABLE', `cannot ${attempt}: ${why}`, {
    cause,
    retry: code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'never' : 'later',
    ...(remedy === undefined ? {} : { remedy }),
  });
}

/** Runs one step on the disk; what the operating system refuses becomes `ERR_STORE_UNUSABLE`. */
export async function onDisk<T>(attempt: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw error instanceof Error && 'syscall' in error ? unusable(attempt, error) : error;
  }
}

export function mandateLost(why: string, cause?: unknown): KacmeError {
  return new KacmeError('ERR_MANDATE_LOST', `this process may not change anything any more: ${why}`, {
    retry: 'later',
    ...(cause === undefined ? {} : { cause }),
  });
}
