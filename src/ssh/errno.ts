import { KacmeError } from '../domain/errors.ts';
import { type FileProblem, type FileStep, fileError } from './file-errors.ts';

/** errno(3) of this machine's own files, in the words of every other host's. */
const PROBLEMS: Readonly<Record<string, FileProblem>> = {
  ENOENT: 'missing',
  ENOTDIR: 'missing',
  EACCES: 'denied',
  EPERM: 'denied',
  EEXIST: 'exists',
  ENOSPC: 'full',
  EDQUOT: 'full',
  EROFS: 'read-only',
};

const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;

/** undefined in the place of an error that says that nothing is there. */
export async function unlessMissing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (PROBLEMS[errnoOf(error) ?? ''] === 'missing') return undefined;
    throw error;
  }
}

/** Explains what node:fs threw; anything else, such as an abort, passes as it is. */
export function explainErrno(file: FileStep, error: unknown): unknown {
  const errno = errnoOf(error);
  if (
    errno === undefined ||
    error instanceof KacmeError ||
    !(error instanceof Error) ||
    error.name === 'AbortError'
  )
    return error;
  return fileError(file, PROBLEMS[errno] ?? 'other', error.message, error);
}
