import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ScratchDirectory extends AsyncDisposable {
  readonly path: string;
  remove(): Promise<void>;
}

/**
 * A new directory of mode 0700 with a short path (a UNIX socket's is limited to 107 bytes). Dispose of it with
 * `onTestFinished(() => scratch.remove())` or `await using`.
 */
export async function scratchDirectory(
  owner?: { readonly uid: number; readonly gid: number } | undefined,
): Promise<ScratchDirectory> {
  const path = await mkdtemp(join(tmpdir(), 'kacme-'));
  if (owner !== undefined && owner.uid !== process.getuid?.()) await chown(path, owner.uid, owner.gid);
  const remove = () => rm(path, { recursive: true, force: true, maxRetries: 3 });
  return { path, remove, [Symbol.asyncDispose]: remove };
}
