import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { FileStat, HostSession } from '../ports/host-session.ts';

/** A file as it lies on a host. */
export interface HostFile {
  readonly stat: FileStat;
  readonly content: Buffer;
}

/** undefined when nothing is there. Throws `ERR_HOST_FILES` for a directory and the like. */
export async function statHostFile(
  session: HostSession,
  host: string,
  path: string,
  { signal }: { signal: AbortSignal },
): Promise<FileStat | undefined> {
  const stat = await session.stat(path, { signal });
  if (stat !== undefined && stat.type !== 'file') {
    throw new HostError('ERR_HOST_FILES', {
      host,
      step: `read ${path}`,
      reason: stat.type === 'directory' ? 'it is a directory' : 'it is not a regular file',
      retry: 'never',
      remedy: 'remove it: the path of a deployment must be a file or free',
    });
  }
  return stat;
}

/** undefined when nothing is there. Throws `ERR_HOST_FILES` for a directory and the like. */
export async function readHostFile(
  session: HostSession,
  host: string,
  path: string,
  { signal }: { signal: AbortSignal },
): Promise<HostFile | undefined> {
  const stat = await statHostFile(session, host, path, { signal });
  if (stat === undefined) return undefined;
  const content = await session.readFile(path, { signal });
  return content === undefined ? undefined : { stat, content };
}

/** Resolves to the error when this file alone is the matter; throws what concerns the whole host. */
export async function unlessUnreadable<T>(
  session: HostSession,
  read: Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<T | KacmeError> {
  try {
    return await read;
  } catch (error) {
    const ofFile = error instanceof KacmeError && error.code === 'ERR_HOST_FILES';
    if (!ofFile || signal.aborted || session.closed.aborted) throw error;
    return error;
  }
}
