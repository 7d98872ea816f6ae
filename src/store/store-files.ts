import { constants } from 'node:fs';
import { copyFile, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { KacmeError } from '../domain/errors.ts';
import type { Entry } from '../ports/state-store.ts';
import { makeDirectories, namesIn, syncPath, writeDraft } from './durable-files.ts';
import { decodeEntry, encodeEntry, sha256 } from './envelope.ts';
import { decodeJournal, encodeJournal, type Journal, lookUp } from './journal.ts';
import { hasCode, onDisk } from './store-errors.ts';
import { flatName, keyOfPath, pathOfKey } from './store-key.ts';
import { ensureDirectory } from './store-root.ts';

/** A file of the store that cannot be trusted. */
export interface DamagedFile {
  /** undefined for the journal. */
  readonly key: string | undefined;
  readonly path: string;
  readonly reason: string;
  /** A copy of it, if one could be made; the file itself stays where it is. */
  readonly copy: string | undefined;
}

export type ReadEntry = Entry | DamagedFile | undefined;

export function isDamaged(read: ReadEntry): read is DamagedFile {
  return read !== undefined && 'path' in read;
}

/** `ERR_STORE_CORRUPT` that names every file with its remedy. */
export function corrupt(attempt: string, files: readonly DamagedFile[]): KacmeError {
  const named = files.map(
    ({ path, reason, copy }) =>
      `${path}: ${reason}${copy === undefined ? '' : ` (a copy is kept in ${copy})`}`,
  );
  const journal = files.some(({ key }) => key === undefined);
  return new KacmeError('ERR_STORE_CORRUPT', `cannot ${attempt}, damaged: ${named.join('; ')}`, {
    retry: 'never',
    remedy: journal
      ? 'stop kacme and restore the whole directory from a back-up; removing the journal instead gives up the last transaction'
      : 'restore the file from a back-up; or remove it, with kacme stopped, to start over without it',
  });
}

/** The files below a store's root: where they are, and how one transaction gets into them. */
export class StoreFiles {
  readonly #data: string;
  readonly #draft: string;
  readonly #corrupt: string;
  readonly #keepCopies: boolean;
  /** Every read needs it, and it seldom changes: what was read again is not judged again. */
  #lastJournal: { readonly text: string; readonly journal: Journal } | undefined;
  readonly root: string;
  readonly journalPath: string;

  /** `keepCopies` false: nothing is ever written, not even a copy of a damaged file. */
  constructor(root: string, { keepCopies }: { keepCopies: boolean }) {
    this.root = root;
    this.journalPath = join(root, 'journal');
    this.#data = join(root, 'data');
    this.#draft = join(root, 'draft');
    this.#corrupt = join(root, 'corrupt');
    this.#keepCopies = keepCopies;
  }

  get draftDirectory(): string {
    return this.#draft;
  }

  async ensureDirectories(): Promise<void> {
    await ensureDirectory(this.#draft);
    await ensureDirectory(this.#data);
  }

  /** Removes what a killed writer left half written. Only for the one writer. */
  async sweepDrafts(): Promise<void> {
    await onDisk(`remove old drafts from ${this.#draft}`, async () => {
      const names = await namesIn(this.#draft);
      await Promise.all(names.map((name) => rm(join(this.#draft, name), { force: true })));
    });
  }

  /** undefined when there is none: a new store, or its journal was removed by hand. */
  async readJournal(): Promise<Journal | undefined> {
    const text = await this.#text(this.journalPath);
    if (text === undefined) return undefined;
    if (text === this.#lastJournal?.text) return this.#lastJournal.journal;
    const decoded = decodeJournal(text);
    if (decoded.state === 'intact') {
      this.#lastJournal = { text, journal: decoded.content };
      return decoded.content;
    }
    const damage = await this.#keepAside(undefined, this.journalPath, decoded.reason, text);
    throw corrupt(`read the store ${this.root}`, [damage]);
  }

  async read(key: string): Promise<ReadEntry> {
    const path = pathOfKey(this.#data, key);
    const text = await this.#text(path);
    if (text === undefined) return undefined;
    const decoded = decodeEntry(key, text);
    return decoded.state === 'intact'
      ? decoded.content
      : await this.#keepAside(key, path, decoded.reason, text);
  }

  /** The keys that have a file and start with `prefix`, unsorted. */
  async keys(prefix: string): Promise<readonly string[]> {
    const top = join(this.#data, prefix.slice(0, prefix.lastIndexOf('/') + 1));
    const files = await onDisk(`list ${top}`, () =>
      readdir(top, { recursive: true, withFileTypes: true }),
    ).catch((error: unknown) => {
      if (error instanceof KacmeError && hasCode(error.cause, 'ENOENT', 'ENOTDIR')) return [];
      throw error;
    });
    return files
      .filter((file) => file.isFile())
      .map((file) => keyOfPath(this.#data, join(file.parentPath, file.name)))
      .filter((key) => key !== undefined)
      .filter((key) => key.startsWith(prefix));
  }

  /** Every key under `prefix` as `journal` and the files give it, sorted by key. */
  async scan(prefix: string, journal: Journal): Promise<readonly (Entry | DamagedFile)[]> {
    const keys = (await this.keys(prefix)).filter((key) => lookUp(journal, key) === undefined);
    const read = await Promise.all(keys.map((key) => this.read(key)));
    const journaled = journal.puts.filter(({ key }) => key.startsWith(prefix));
    return [...read.filter((entry) => entry !== undefined), ...journaled].sort((a, b) =>
      (a.key ?? '') < (b.key ?? '') ? -1 : 1,
    );
  }

  /** The moment of commit is the rename: `beforeCommit` runs immediately before it and may still throw. */
  async commitJournal(journal: Journal, beforeCommit: () => Promise<void>): Promise<void> {
    await onDisk(`write ${this.journalPath}`, async () => {
      const draft = await writeDraft(this.#draft, encodeJournal(journal), { sync: true });
      try {
        await beforeCommit();
        await rename(draft, this.journalPath);
      } catch (error) {
        await rm(draft, { force: true });
        throw error;
      }
      await syncPath(this.root);
    });
  }

  /**
   * Brings the journal's changes into the files of its keys; doing it again changes nothing. Resolves to the
   * paths that must be synced before the journal may be replaced.
   */
  async apply(journal: Journal): Promise<readonly string[]> {
    return await onDisk(`apply ${this.journalPath} to ${this.#data}`, async () => {
      const put = await Promise.all(journal.puts.map((entry) => this.#writeEntry(entry)));
      const removed = await Promise.all(journal.deletes.map((key) => this.#removeEntry(key)));
      return [...new Set([...put, ...removed].flat())];
    });
  }

  async sync(paths: readonly string[]): Promise<void> {
    await onDisk(`sync ${this.#data}`, async () => {
      await Promise.all(paths.map(syncPath));
    });
  }

  async #writeEntry(entry: Entry): Promise<readonly string[]> {
    const path = pathOfKey(this.#data, entry.key);
    const directories = await makeDirectories(dirname(path));
    const draft = await writeDraft(this.#draft, encodeEntry(entry), { sync: false });
    await rename(draft, path);
    return [path, dirname(path), ...directories];
  }

  async #removeEntry(key: string): Promise<readonly string[]> {
    const path = pathOfKey(this.#data, key);
    try {
      await rm(path);
      return [dirname(path)];
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
  }

  async #text(path: string): Promise<string | undefined> {
    try {
      return await onDisk(`read ${path}`, () => readFile(path, 'utf8'));
    } catch (error) {
      if (error instanceof KacmeError && hasCode(error.cause, 'ENOENT', 'ENOTDIR')) return undefined;
      throw error;
    }
  }

  /** Copies a damaged file once per content, so that repairing it by hand cannot lose anything. */
  async #keepAside(
    key: string | undefined,
    path: string,
    reason: string,
    text: string,
  ): Promise<DamagedFile> {
    const name = key === undefined ? 'journal' : flatName(key);
    const copy = join(this.#corrupt, `${name}.${sha256(text).slice(0, 16)}`);
    if (!this.#keepCopies) return { key, path, reason, copy: undefined };
    try {
      await ensureDirectory(this.#corrupt);
      await copyFile(path, copy, constants.COPYFILE_EXCL);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) {
        const why = error instanceof Error ? error.message : String(error);
        return { key, path, reason: `${reason}; it could not be copied: ${why}`, copy: undefined };
      }
    }
    return { key, path, reason, copy };
  }
}
