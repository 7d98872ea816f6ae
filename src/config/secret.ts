import { type FileHandle, open } from 'node:fs/promises';
import { KacmeError } from '../domain/errors.ts';
import type { SecretRef } from '../domain/model.ts';

const MAX_BYTES = 65_536;

/**
 * Reads what a reference stands for, without the newline at its end. Throws `ERR_SECRET_UNREADABLE`, also for
 * a file that others can read, and never says what is in it.
 */
export async function readSecret(ref: SecretRef, { signal }: { signal: AbortSignal }): Promise<string> {
  signal.throwIfAborted();
  const secret = 'env' in ref ? fromEnvironment(ref.env) : await fromFile(ref.file, { signal });
  const text = secret.replace(/[\r\n]+$/, '');
  if (text !== '') return text;
  throw unreadable(describe(ref), 'it is empty', 'put the secret there');
}

function fromEnvironment(name: string): string {
  const value = process.env[name];
  if (value !== undefined) return value;
  throw unreadable(describe({ env: name }), 'it is not set', `set ${name} for the kacme process`);
}

async function fromFile(path: string, { signal }: { signal: AbortSignal }): Promise<string> {
  try {
    await using file = await open(path, 'r');
    await refuseExposed(path, file);
    return await file.readFile({ encoding: 'utf8', signal });
  } catch (error) {
    if (error instanceof KacmeError || signal.aborted) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw unreadable(describe({ file: path }), reason, 'name a file that the user of kacme can read', error);
  }
}

/** Judges the open file, so that it cannot be exchanged in between. */
async function refuseExposed(path: string, file: FileHandle): Promise<void> {
  const stat = await file.stat();
  const refuse = (reason: string, remedy: string) => unreadable(describe({ file: path }), reason, remedy);
  if (!stat.isFile()) throw refuse('it is not a regular file', 'name a regular file');
  if (stat.size > MAX_BYTES)
    throw refuse(`it has more than ${MAX_BYTES} bytes`, 'name the file of one secret');
  // As ssh(1) does: a group is fine where somebody else manages the file, such as a mounted secret.
  const forbidden = stat.uid === process.getuid?.() ? 0o077 : 0o007;
  if ((stat.mode & forbidden) === 0) return;
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  throw refuse(`its permissions ${mode} are open to other users`, `chmod 600 ${path}`);
}

function describe(ref: SecretRef): string {
  return 'env' in ref ? `the environment variable ${ref.env}` : `the file ${ref.file}`;
}

function unreadable(place: string, reason: string, remedy: string, cause?: unknown): KacmeError {
  return new KacmeError('ERR_SECRET_UNREADABLE', `cannot read a secret from ${place}: ${reason}`, {
    retry: 'never',
    remedy,
    ...(cause === undefined ? {} : { cause }),
  });
}
