import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasCode } from './store-errors.ts';

/** Creates a new file of mode 0600 from its first byte (values include private keys); resolves to its path. */
export async function writeDraft(
  directory: string,
  content: string,
  { sync }: { sync: boolean },
): Promise<string> {
  const path = join(directory, randomUUID());
  try {
    await using file = await open(path, 'wx', 0o600);
    await file.writeFile(content);
    if (sync) await file.sync();
    return path;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/** fsync of a file, or of a directory: then renames and removals in it survive a power cut. */
export async function syncPath(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}

/** `mkdir -p` with mode 0700; resolves to the directories whose content changed by it, for `syncPath`. */
export async function makeDirectories(path: string): Promise<readonly string[]> {
  if (await isDirectory(path)) return [];
  const above = await makeDirectories(dirname(path));
  try {
    // Not `recursive`: Node tries for ever below a directory such as /proc, where ENOENT means "not here".
    await mkdir(path, 0o700);
  } catch (error) {
    // Somebody else was faster.
    if (!hasCode(error, 'EEXIST') || !(await isDirectory(path))) throw error;
  }
  return [dirname(path), ...above];
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Names in a directory; none when there is no such directory. */
export async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
