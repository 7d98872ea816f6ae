import { Buffer } from 'node:buffer';
import PQueue from 'p-queue';
import { KacmeError } from '../domain/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions, Mandate } from '../ports/leadership.ts';
import type { Change, Condition, Entry, StateStore, Transaction } from '../ports/state-store.ts';
import { merged, takeBatch, type Waiting } from './batch.ts';
import { EMPTY_JOURNAL, type Journal, journalOf, lookUp } from './journal.ts';
import { highestEpoch } from './lock-directory.ts';
import { mandateLost, onDisk } from './store-errors.ts';
import { corrupt, type DamagedFile, isDamaged, type ReadEntry, StoreFiles } from './store-files.ts';
import { assertStoreKey } from './store-key.ts';
import { checkFormat, createLayout, ensureDirectory, prepareStoreRoot } from './store-root.ts';
import { ChangeSignal, changesBetween } from './store-watch.ts';

const MAX_VALUE_BYTES = 1024 * 1024;
/** Scans that may be spoilt by transactions before one is done with our own transactions held back. */
const FREE_SCANS = 3;

export interface FileStateStoreOptions {
  readonly clock: Clock;
  /** Never changes anything below the root, so it needs neither its ownership nor the lock. */
  readonly readOnly?: boolean;
}

/**
 * One file per key below a directory, and a journal that makes transactions whole (docs/store.md). Any number
 * of processes may read; the holder of the mandate (`SocketLeadership` on the same root) writes.
 */
export class FileStateStore implements StateStore {
  readonly #files: StoreFiles;
  readonly #clock: Clock;
  readonly #readOnly: boolean;
  readonly #writes = new PQueue({ concurrency: 1 });
  readonly #waiting: Waiting[] = [];
  readonly #watching = new Set<ChangeSignal>();
  readonly #closed = new AbortController();
  /** The journal whose changes this process knows to be in the files of their keys, durably. */
  #settled: Journal | undefined;
  #syncing: Promise<unknown> = Promise.resolve();

  private constructor(files: StoreFiles, { clock, readOnly = false }: FileStateStoreOptions) {
    this.#files = files;
    this.#clock = clock;
    this.#readOnly = readOnly;
  }

  /**
   * Creates the directory if need be. Throws `ERR_STORE_UNUSABLE` when it cannot be used, `ERR_STORE_SCHEMA`
   * when a later kacme made it.
   */
  static async open(root: string, options: FileStateStoreOptions): Promise<FileStateStore> {
    const readOnly = options.readOnly ?? false;
    const files = new StoreFiles(root, { keepCopies: !readOnly });
    if (readOnly) {
      await checkFormat(root);
      return new FileStateStore(files, options);
    }
    await prepareStoreRoot(root);
    const format = await checkFormat(root);
    if (format === undefined) {
      await ensureDirectory(files.draftDirectory);
      await createLayout(root, files.draftDirectory);
    }
    await files.ensureDirectories();
    return new FileStateStore(files, options);
  }

  async get(key: string, { signal }: { signal: AbortSignal }): Promise<Entry | undefined> {
    assertStoreKey(key);
    signal.throwIfAborted();
    const journal = (await this.#files.readJournal()) ?? EMPTY_JOURNAL;
    return intact(key, await this.#read(key, journal));
  }

  /** Throws `ERR_STORE_CORRUPT` naming every damaged file under `prefix`; `get` still reads the intact ones. */
  async list(prefix: string, { signal }: { signal: AbortSignal }): Promise<readonly Entry[]> {
    const found = await this.#snapshot(prefix, { signal });
    const damaged = found.filter(isDamaged);
    if (damaged.length > 0) throw corrupt(`list "${prefix}"`, damaged);
    return found.filter((entry): entry is Entry => !isDamaged(entry));
  }

  /** Every damaged file of the store: to be reported at start, before one of them is needed. */
  async check({ signal }: { signal: AbortSignal }): Promise<readonly DamagedFile[]> {
    return (await this.#snapshot('', { signal })).filter(isDamaged);
  }

  async transact(transaction: Transaction, { signal, mandate }: EffectOptions): Promise<number> {
    assertWellFormed(transaction);
    return await new Promise<number>((resolve, reject) => {
      this.#waiting.push({ transaction, signal, mandate, resolve, reject });
      // Never rejects: each transaction hears of its own failure.
      void this.#writes.add(() => this.#commitWaiting());
    });
  }

  async *watch(prefix: string, options: { signal: AbortSignal }): AsyncIterable<Change> {
    const signal = AbortSignal.any([options.signal, this.#closed.signal]);
    using changed = await this.#changeSignal();
    this.#watching.add(changed);
    try {
      let seen: ReadonlyMap<string, Entry> = new Map();
      while (!signal.aborted) {
        const entries = await this.list(prefix, { signal });
        const now = new Map(entries.map((entry) => [entry.key, entry]));
        for (const change of changesBetween(seen, now)) {
          if (signal.aborted) return;
          yield change;
        }
        seen = now;
        await changed.wait(this.#clock, { signal });
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#watching.delete(changed);
    }
  }

  /** Ends watches, waits for transactions that have begun. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#writes.onIdle();
    await this.#syncing;
  }

  async #changeSignal(): Promise<ChangeSignal> {
    return await onDisk(
      `watch ${this.#files.root}`,
      async () => new ChangeSignal(this.#files.root, this.#files.journalPath),
    );
  }

  async #read(key: string, journal: Journal): Promise<ReadEntry> {
    const journaled = lookUp(journal, key);
    return journaled === undefined ? await this.#files.read(key) : journaled.entry;
  }

  /** What one moment held, although transactions go on, also in other processes. */
  async #snapshot(
    prefix: string,
    { signal }: { signal: AbortSignal },
  ): Promise<readonly (Entry | DamagedFile)[]> {
    for (let scans = 1; ; scans += 1) {
      signal.throwIfAborted();
      const scan = () => this.#scanUndisturbed(prefix);
      const found = scans <= FREE_SCANS ? await scan() : await this.#writes.add(scan);
      if (found !== undefined) return found;
    }
  }

  /** undefined when a transaction was committed meanwhile. */
  async #scanUndisturbed(prefix: string): Promise<readonly (Entry | DamagedFile)[] | undefined> {
    const journal = await this.#files.readJournal();
    const found = await this.#files.scan(prefix, journal ?? EMPTY_JOURNAL);
    const after = await this.#files.readJournal();
    return journal?.revision === after?.revision ? found : undefined;
  }

  /** Those that wait share one commit where they can: with many at once its fsyncs are what takes the time. */
  async #commitWaiting(): Promise<void> {
    const batch = takeBatch(this.#waiting);
    const [first] = batch;
    // An earlier turn has taken it along.
    if (first === undefined) return;
    try {
      await this.#commit(batch, first.mandate);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  /** Throws what keeps all of them from being committed; what keeps one from it, that one is told. */
  async #commit(batch: readonly Waiting[], mandate: Mandate): Promise<void> {
    this.#assertWritable();
    await this.#assertMandate(mandate);
    const last = await this.#settle();
    const possible = (await Promise.all(batch.map((one) => this.#isPossible(one, last)))).flatMap(
      (isPossible, i) => (isPossible ? batch.slice(i, i + 1) : []),
    );
    const changing = possible.filter(
      ({ transaction: { puts, deletes } }) => puts.length + deletes.length > 0,
    );
    for (const one of possible) if (!changing.includes(one)) one.resolve(last.revision);
    if (changing.length === 0) return;
    const transaction = merged(changing.map((one) => one.transaction));
    const journal = journalOf(last.revision + 1, transaction);
    await this.#files.commitJournal(journal, () => this.#assertMandate(mandate));
    await this.#applyCommitted(journal);
    for (const changed of this.#watching) changed.wake();
    for (const { resolve } of changing) resolve(journal.revision);
  }

  /** Rejects one that was cancelled, and one whose conditions do not hold. */
  async #isPossible({ transaction, signal, reject }: Waiting, last: Journal): Promise<boolean> {
    try {
      signal.throwIfAborted();
      await this.#assertConditions(transaction, last);
      signal.throwIfAborted();
      return true;
    } catch (error) {
      reject(error);
      return false;
    }
  }

  #assertWritable(): void {
    if (!this.#readOnly && !this.#closed.signal.aborted) return;
    const state = this.#readOnly ? 'opened for reading only' : 'closed';
    throw new KacmeError('ERR_INTERNAL', `cannot write to the store ${this.#files.root}: it is ${state}`, {
      retry: 'never',
    });
  }

  /** The mandate's own word, and the lock's: a newer epoch than the mandate's deposes it. */
  async #assertMandate(mandate: Mandate): Promise<void> {
    mandate.assertHeld();
    const highest = await onDisk('read the lock', () => highestEpoch(this.#files.root));
    if (highest > mandate.epoch) {
      throw mandateLost(`epoch ${highest} was granted after its own, ${mandate.epoch}`);
    }
  }

  /**
   * The journal on disk, after its changes are durable in the files of its keys. Mostly they are already; a
   * journal that this process did not write itself may be of a writer that was killed, so it is applied again.
   */
  async #settle(): Promise<Journal> {
    await this.#syncing;
    const journal = await this.#files.readJournal();
    if (this.#settled !== undefined && this.#settled.revision === journal?.revision) return this.#settled;
    await this.#files.sweepDrafts();
    const settled = journal ?? { ...EMPTY_JOURNAL, revision: await this.#highestRevision() };
    await this.#files.sync(await this.#files.apply(settled));
    this.#settled = settled;
    return settled;
  }

  /** Without a journal the files tell at least that no revision is given twice to one of them. */
  async #highestRevision(): Promise<number> {
    const found = await this.#files.scan('', EMPTY_JOURNAL);
    return Math.max(0, ...found.map((entry) => (isDamaged(entry) ? 0 : entry.revision)));
  }

  /**
   * The transaction is committed whatever happens here: what fails is done again by the next one, which then
   * reports it. The sync goes on after the caller has its answer; it changes nothing that anybody can see.
   */
  async #applyCommitted(journal: Journal): Promise<void> {
    this.#settled = undefined;
    try {
      const paths = await this.#files.apply(journal);
      this.#syncing = this.#files.sync(paths).then(
        () => {
          this.#settled = journal;
        },
        () => undefined,
      );
    } catch {
      this.#syncing = Promise.resolve();
    }
  }

  /** Reads every key that is named, so that nothing damaged is overwritten or deleted unseen either. */
  async #assertConditions({ conditions, puts, deletes }: Transaction, journal: Journal): Promise<void> {
    const keys = new Set([...conditions.map(({ key }) => key), ...puts.map(({ key }) => key), ...deletes]);
    const read = new Map<string, ReadEntry>();
    await Promise.all(
      Array.from(keys, async (key) => {
        read.set(key, await this.#read(key, journal));
      }),
    );
    const damaged = [...read.values()].filter(isDamaged);
    if (damaged.length > 0) throw corrupt('write to the store', damaged);
    for (const condition of conditions)
      assertRevision(condition, intact(condition.key, read.get(condition.key)));
  }
}

function intact(key: string, read: ReadEntry): Entry | undefined {
  if (isDamaged(read)) throw corrupt(`read "${key}"`, [read]);
  return read;
}

function assertRevision({ key, revision }: Condition, entry: Entry | undefined): void {
  const present = entry?.revision ?? 0;
  if (present === revision) return;
  const state = (n: number): string => (n === 0 ? 'absent' : `at revision ${n}`);
  throw new KacmeError(
    'ERR_STORE_CONFLICT',
    `the store refused a change: "${key}" is ${state(present)}, the change was made for ${state(revision)}`,
    { retry: 'later' },
  );
}

function assertWellFormed({ conditions, puts, deletes }: Transaction): void {
  const changed = [...puts.map(({ key }) => key), ...deletes];
  for (const key of [...changed, ...conditions.map((condition) => condition.key)]) assertStoreKey(key);
  if (new Set(changed).size !== changed.length) {
    throw new KacmeError('ERR_INTERNAL', 'a transaction changes one key twice', { retry: 'never' });
  }
  const large = puts.find(({ value }) => Buffer.byteLength(value) > MAX_VALUE_BYTES);
  if (large !== undefined) {
    throw new KacmeError('ERR_INTERNAL', `the value of "${large.key}" is larger than 1 MiB`, {
      retry: 'never',
    });
  }
}
