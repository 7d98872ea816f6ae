import { Lane } from '../domain/lane.ts';
import type { FileObservation } from '../domain/observation.ts';
import type { Clock } from '../ports/clock.ts';
import type { FileStat, HostSession } from '../ports/host-session.ts';
import { type HostFile, observeFile, statHostFile } from './host-file.ts';

/** SFTP tells whole seconds: what is written so long after a look has another time of change than it saw. */
const SETTLED_MS = 2_000;
/** A file of the same size that somebody gave its former time of change is found after this. */
const BELIEVED_MS = 300_000;
/** An sftp-server may have 1,024 files open (RLIMIT_NOFILE in getrlimit(2)). */
const READ_AT_ONCE = 64;

/** A file as it lies on a host. */
export interface KnownFile extends HostFile {
  /** Of the content, lower-case hex. */
  readonly sha256: string;
}

type Present = Extract<FileObservation, { state: 'present' }>;

interface Kept {
  readonly file: HostFile;
  /** When this size and time of change were first seen. */
  readonly sinceMs: number;
  readonly readMs: number;
  readonly found: Present;
}

/**
 * What files of one host held when they were last read, so that a file which is as it was need not be read again: every
 * look asks for its size, time of change, mode and owner. Its life is that of a session: a host that was away is read anew.
 */
export class FileMemory {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #kept = new Map<string, Kept>();
  readonly #reading = new Lane(READ_AT_ONCE);

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** Throws `ERR_HOST_FILES` for a directory and the like. */
  async observe(
    session: HostSession,
    host: string,
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<FileObservation> {
    const kept = await this.#look(session, host, path, { signal });
    if (kept === undefined) return { state: 'absent' };
    const { mode, uid, gid } = kept.file.stat;
    return { ...kept.found, mode, uid, gid };
  }

  /** As `observe`, with the content itself; undefined when nothing is there. */
  async read(
    session: HostSession,
    host: string,
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<KnownFile | undefined> {
    const kept = await this.#look(session, host, path, { signal });
    return kept && { ...kept.file, sha256: kept.found.sha256 };
  }

  async #look(
    session: HostSession,
    host: string,
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<Kept | undefined> {
    const stat = await statHostFile(session, host, path, { signal });
    const nowMs = this.#clock.monotonicMs();
    const kept = this.#kept.get(path);
    const same = kept !== undefined && stat !== undefined && isSame(kept.file.stat, stat);
    if (same && kept.readMs - kept.sinceMs >= SETTLED_MS && nowMs - kept.readMs < BELIEVED_MS)
      return { ...kept, file: { ...kept.file, stat } };
    const read = () => session.readFile(path, { signal });
    const content = stat && (await this.#reading.run(read, { signal }));
    if (stat === undefined || content === undefined) {
      this.#kept.delete(path);
      return undefined;
    }
    const file = { stat, content };
    const sinceMs = same ? kept.sinceMs : nowMs;
    const now = { file, sinceMs, readMs: nowMs, found: observeFile(file, kept?.found) };
    this.#kept.set(path, now);
    return now;
  }
}

const isSame = (a: FileStat, b: FileStat): boolean => a.size === b.size && a.mtimeMs === b.mtimeMs;
