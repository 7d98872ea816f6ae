import { Lane } from '../domain/lane.ts';
import type { FileObservation } from '../domain/observation.ts';
import type { Clock } from '../ports/clock.ts';
import type { FileStat, HostSession } from '../ports/host-session.ts';
import { statHostFile } from './host-file.ts';
import type { KnownContent, KnownContents } from './known-contents.ts';

/** SFTP tells whole seconds: what is written so long after a look has another time of change than it saw. */
const SETTLED_MS = 2_000;
/** A file of the same size that somebody gave its former time of change is found after this. */
const BELIEVED_MS = 300_000;
/** An sftp-server may have 1,024 files open (RLIMIT_NOFILE in getrlimit(2)). */
const READ_AT_ONCE = 64;

/** A file as it lies on a host. */
export interface KnownFile extends KnownContent {
  readonly stat: FileStat;
}

interface Kept {
  readonly stat: FileStat;
  /** When this size and time of change were first seen. */
  readonly sinceMs: number;
  readonly readMs: number;
  readonly held: KnownContent;
}

/**
 * What files of one host held when they were last read, so that a file which is as it was need not be read again: every
 * look asks for its size, time of change, mode and owner. Its life is that of a session: a host that was away is read anew.
 */
export class FileMemory {
  readonly #contents: KnownContents;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #kept = new Map<string, Kept>();
  readonly #reading = new Lane(READ_AT_ONCE);

  constructor(contents: KnownContents, clock: Pick<Clock, 'monotonicMs'>) {
    this.#contents = contents;
    this.#clock = clock;
  }

  /** Throws `ERR_HOST_FILES` for a directory and the like. */
  async observe(
    session: HostSession,
    host: string,
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<FileObservation> {
    const file = await this.read(session, host, path, { signal });
    if (file === undefined) return { state: 'absent' };
    const { sha256, content, stat } = file;
    return { state: 'present', sha256, mode: stat.mode, uid: stat.uid, gid: stat.gid, content };
  }

  /** As `observe`, with the content itself; undefined when nothing is there. */
  async read(
    session: HostSession,
    host: string,
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<KnownFile | undefined> {
    const stat = await statHostFile(session, host, path, { signal });
    const nowMs = this.#clock.monotonicMs();
    const kept = this.#kept.get(path);
    const same = kept !== undefined && stat !== undefined && isSame(kept.stat, stat);
    if (same && kept.readMs - kept.sinceMs >= SETTLED_MS && nowMs - kept.readMs < BELIEVED_MS)
      return { ...kept.held, stat };
    const read = () => session.readFile(path, { signal });
    const bytes = stat && (await this.#reading.run(read, { signal }));
    if (stat === undefined || bytes === undefined) {
      this.#kept.delete(path);
      return undefined;
    }
    const held = this.#contents.of(bytes);
    this.#kept.set(path, { stat, sinceMs: same ? kept.sinceMs : nowMs, readMs: nowMs, held });
    return { ...held, stat };
  }
}

const isSame = (a: FileStat, b: FileStat): boolean => a.size === b.size && a.mtimeMs === b.mtimeMs;
