import { constants } from 'node:fs';
import { access, chmod, readFile, rename, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { KacmeError } from '../domain/errors.ts';
import { makeDirectories, namesIn, syncPath, writeDraft } from './durable-files.ts';
import { hasCode, onDisk } from './store-errors.ts';

/** Of the layout on disk, not of the records in it. */
const FORMAT = 1;

/** `f_type` of statfs(2) for file systems on which another machine's sockets look dead. */
const NETWORK_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x01161970, 'GFS2'],
  [0x7461636f, 'OCFS2'],
]);

export function networkFileSystem(type: number): string | undefined {
  return NETWORK_FILE_SYSTEMS.get(type >>> 0);
}

function refuse(message: string, remedy: string): KacmeError {
  return new KacmeError('ERR_STORE_UNUSABLE', message, { retry: 'never', remedy });
}

/**
 * Makes sure that `root` is a directory for this process alone: creates it, narrows its mode to 0700, and
 * throws `ERR_STORE_UNUSABLE` when it belongs to somebody else, is not writable or is shared by network.
 */
export async function prepareStoreRoot(root: string): Promise<void> {
  await onDisk(`use ${root} as the store`, async () => {
    await ensureDirectory(root);
    const { uid, mode } = await stat(root);
    const self = process.geteuid?.() ?? uid;
    if (uid !== self) {
      throw refuse(
        `cannot use ${root} as the store: it belongs to uid ${uid}, kacme runs as uid ${self}`,
        `run kacme as uid ${uid}, or change the owner: chown -R ${self} ${root}`,
      );
    }
    const network = networkFileSystem((await statfs(root)).type);
    if (network !== undefined) {
      throw refuse(
        `cannot use ${root} as the store: it lies on ${network}, where the lock cannot keep a second machine out`,
        'put the store on a local file system',
      );
    }
    if ((mode & 0o777) !== 0o700) await chmod(root, 0o700);
    await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
  });
}

/** undefined when the store is new. Throws `ERR_STORE_SCHEMA` for a layout made by a later kacme. */
export async function checkFormat(root: string): Promise<number | undefined> {
  const path = join(root, 'format');
  const text = await onDisk(`read ${path}`, () => readFile(path, 'utf8')).catch((error: unknown) => {
    if (error instanceof KacmeError && hasCode(error.cause, 'ENOENT')) return undefined;
    throw error;
  });
  if (text === undefined) {
    const left = (await onDisk(`list ${root}`, () => namesIn(root))).filter((name) =>
      ['data', 'journal'].includes(name),
    );
    if (left.length === 0) return undefined;
    throw new KacmeError(
      'ERR_STORE_CORRUPT',
      `${path} is missing, but ${join(root, left[0] ?? '')} is there`,
      {
        retry: 'never',
        remedy: 'restore the whole directory from a back-up, or write the line "1" to that file',
      },
    );
  }
  const format = Number(text.trim());
  if (format === FORMAT) return format;
  if (Number.isSafeInteger(format) && format > FORMAT) {
    throw new KacmeError(
      'ERR_STORE_SCHEMA',
      `cannot use ${root} as the store: its format is ${format}, this kacme knows ${FORMAT}`,
      { retry: 'never', remedy: 'upgrade kacme, or restore a back-up made by this version' },
    );
  }
  throw new KacmeError('ERR_STORE_CORRUPT', `${path} does not hold the format of the store`, {
    retry: 'never',
    remedy: 'restore the whole directory from a back-up, or write the line "1" to that file',
  });
}

/** Lays out an empty store. `draftDirectory` must exist. */
export async function createLayout(root: string, draftDirectory: string): Promise<void> {
  await onDisk(`create the store ${root}`, async () => {
    const draft = await writeDraft(draftDirectory, `${FORMAT}\n`, { sync: true });
    await rename(draft, join(root, 'format'));
    await syncPath(root);
  });
}

/** Creates a directory and its parents with mode 0700 where they lack, durably. */
export async function ensureDirectory(path: string): Promise<void> {
  await onDisk(`create ${path}`, async () => {
    for (const changed of await makeDirectories(path)) await syncPath(changed);
  });
}
