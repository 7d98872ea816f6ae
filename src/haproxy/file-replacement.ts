import { basename, dirname, join } from 'node:path/posix';
import { HostError } from '../domain/host-error.ts';
import type { DeploymentSpec } from '../domain/model.ts';
import type { LoadedCertificate } from '../domain/observation.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import { readBundlePem } from '../domain/x509.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { UndoOptions } from './checkpoint.ts';
import type { FileMemory, KnownFile } from './file-memory.ts';
import { draftBeside, draftOf, previousOf } from './leftovers.ts';

export type Ownership = Pick<DeploymentSpec, 'mode' | 'owner' | 'group'>;

/**
 * What becomes of `.kacme-prev` before a change. `link`: it does not exist, the present file is kept there.
 * `keep`: one is there that an interrupted change left, and it is what an undo must bring back. `replace`: one
 * is there, but the present file is the better one to come back to. `none`: there is nothing to come back to.
 */
export type PreviousPlan = 'link' | 'keep' | 'replace' | 'none';

/**
 * Decides `PreviousPlan` so that the last good file is never lost. `stale` is a `.kacme-prev` found lying
 * there: a change was interrupted after it kept its file there.
 */
export function planPrevious(found: {
  readonly current: Buffer | undefined;
  readonly stale: Buffer | undefined;
  readonly wanted: Buffer;
  readonly loaded: LoadedCertificate | undefined;
}): PreviousPlan {
  const { current, stale, wanted, loaded } = found;
  if (stale === undefined) return current === undefined ? 'none' : 'link';
  if (current?.equals(stale)) return 'keep';
  const judged = readBundlePem(stale.toString('utf8'));
  if (judged.state === 'broken') return current === undefined ? 'none' : 'replace';
  if (current === undefined || readBundlePem(current.toString('utf8')).state === 'broken') return 'keep';
  // The interrupted change brought this very file and HAProxy still has what was there before it.
  const resumed = current.equals(wanted) && loaded?.fingerprint1 === judged.facts.fingerprint1;
  return resumed ? 'keep' : 'replace';
}

/**
 * One file that is replaced beside itself: uploaded under a draft name, then renamed over `path`, so that the
 * path never holds a part of a file. The names begin with a dot, which HAProxy leaves out when it loads a
 * whole directory (configuration.txt, `crt`).
 */
export class FileReplacement {
  readonly path: string;
  readonly #host: string;
  readonly #ownership: Ownership;
  readonly #directory: string;
  readonly #previousPath: string;
  readonly #draftPath: string;
  readonly #memory: FileMemory;
  #current: KnownFile | undefined;
  #stale: Buffer | undefined;
  #leftovers: readonly string[] = [];
  #plan: PreviousPlan = 'none';
  #reached: 'looked' | 'prepared' | 'renamed' = 'looked';
  /** Set when the file's former owner could not be given to the new one; for the log. */
  ownerLost: string | undefined;

  constructor(host: string, path: string, ownership: Ownership, memory: FileMemory) {
    this.path = path;
    this.#host = host;
    this.#memory = memory;
    this.#ownership = ownership;
    this.#directory = dirname(path);
    this.#previousPath = previousOf(path);
    this.#draftPath = draftBeside(path);
  }

  /** Bundles that an undo can bring back into HAProxy's memory: what lies in the file and beside it. */
  get heldPems(): readonly string[] {
    return [this.#current?.bytes, this.#stale]
      .filter((content) => content !== undefined)
      .map((content) => content.toString('utf8'));
  }

  /** SHA-256 of the present file, lower-case hex; undefined when there is none. */
  get currentSha256(): string | undefined {
    return this.#current?.sha256;
  }

  /** `tidy`: no interrupted change left anything beside it. */
  async look(session: HostSession, { tidy, signal }: { tidy: boolean; signal: AbortSignal }): Promise<void> {
    const [current, stale, names] = await Promise.all([
      this.#memory.read(session, this.#host, this.path, { signal }),
      tidy ? undefined : session.readFile(this.#previousPath, { signal }),
      tidy ? [] : session.readDirectory(this.#directory, { signal }),
    ]);
    this.#current = current;
    this.#stale = stale;
    this.#leftovers = names
      .filter((name) => draftOf(name) === basename(this.path))
      .map((name) => join(this.#directory, name));
  }

  /** Sweeps drafts of interrupted changes, keeps the present file aside, and uploads beside it. */
  async prepare(
    session: HostSession,
    wanted: Buffer,
    loaded: LoadedCertificate | undefined,
    options: EffectOptions,
  ): Promise<void> {
    this.#plan = planPrevious({ current: this.#current?.bytes, stale: this.#stale, wanted, loaded });
    this.#reached = 'prepared';
    await waitForAll([
      this.#keepPrevious(session, options),
      this.#upload(session, wanted, options),
      ...this.#leftovers.map((path) => session.remove(path, options)),
    ]);
  }

  /** The moment of change; durable when it resolves. */
  async activate(session: HostSession, options: EffectOptions): Promise<void> {
    this.#reached = 'renamed';
    await session.rename(this.#draftPath, this.path, options);
    await session.syncDirectory(this.#directory, options);
  }

  /** When the change is done: nobody goes back to the previous file any more. */
  async forgetPrevious(session: HostSession, options: EffectOptions): Promise<void> {
    if (this.#plan === 'none' && this.#stale === undefined) return;
    await session.remove(this.#previousPath, options);
  }

  /**
   * Brings back what was there. `keepNew` leaves the new file where there was none: HAProxy has its bundle in
   * memory and cannot be brought back to another.
   */
  async undo(
    { session, ...options }: UndoOptions,
    { keepNew }: { keepNew: boolean },
  ): Promise<string | undefined> {
    if (this.#reached === 'looked') return undefined;
    await session.remove(this.#draftPath, options);
    if (this.#reached === 'prepared') {
      // A `.kacme-prev` that was found stays: it may be the only good file.
      if (this.#plan !== 'keep' && this.#stale === undefined)
        await session.remove(this.#previousPath, options);
      return `what was uploaded beside ${this.path} was removed, the file itself was not touched`;
    }
    if (this.#plan === 'none') {
      if (keepNew) return `${this.path} keeps the new bundle, since there was no file before`;
      await session.remove(this.path, options);
    } else {
      await session.rename(this.#previousPath, this.path, options);
      // rename(2) leaves both names when they are the same file: the first rename never happened.
      await session.remove(this.#previousPath, options);
    }
    await session.syncDirectory(this.#directory, options);
    return this.#plan === 'none'
      ? `${this.path} was removed again`
      : `${this.path} holds its previous content again`;
  }

  async #keepPrevious(session: HostSession, options: EffectOptions): Promise<void> {
    const current = this.#current;
    if (current === undefined || this.#plan === 'keep' || this.#plan === 'none') return;
    if (this.#plan === 'link') return this.#linkOrCopy(session, current, this.#previousPath, options);
    const draft = draftBeside(this.path);
    await this.#linkOrCopy(session, current, draft, options);
    await session.rename(draft, this.#previousPath, options);
  }

  /** A file of somebody else may not be linked (`fs.protected_hardlinks` in proc(5)); it is copied then. */
  async #linkOrCopy(
    session: HostSession,
    current: KnownFile,
    to: string,
    options: EffectOptions,
  ): Promise<void> {
    try {
      await session.link(this.path, to, options);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await session.createFile(to, current.bytes, options);
      await session.setMode(to, current.stat.mode, options);
    }
  }

  async #upload(session: HostSession, wanted: Buffer, options: EffectOptions): Promise<void> {
    await session.createFile(this.#draftPath, wanted, options);
    await this.#giveOwner(session, options);
    if (this.#ownership.mode !== 0o600) await session.setMode(this.#draftPath, this.#ownership.mode, options);
  }

  /** The configured owner must be set; the former one is kept where the account may do that. */
  async #giveOwner(session: HostSession, options: EffectOptions): Promise<void> {
    const { owner, group } = this.#ownership;
    const former = this.#current?.stat;
    if (owner === undefined && group === undefined && former === undefined) return;
    const own = await session.stat(this.#draftPath, options);
    const uid = owner ?? former?.uid ?? own?.uid ?? 0;
    const gid = group ?? former?.gid ?? own?.gid ?? 0;
    if (own?.uid === uid && own.gid === gid) return;
    try {
      await session.setOwner(this.#draftPath, uid, gid, options);
    } catch (error) {
      if (owner !== undefined || group !== undefined || !isRefusal(error)) throw error;
      this.ownerLost = error.message;
    }
  }
}

function isRefusal(error: unknown): error is HostError {
  return (
    error instanceof HostError && (error.code === 'ERR_HOST_NOT_WRITABLE' || error.code === 'ERR_HOST_FILES')
  );
}
