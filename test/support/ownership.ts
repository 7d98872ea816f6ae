import { chown, lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** chown(2) of a directory and all below it; only root can and needs to. */
export async function giveTo(
  account: { readonly uid: number; readonly gid: number },
  path: string,
): Promise<void> {
  if (process.getuid?.() !== 0) return;
  await chown(path, account.uid, account.gid);
  if (!(await lstat(path)).isDirectory()) return;
  for (const name of await readdir(path)) await giveTo(account, join(path, name));
}
