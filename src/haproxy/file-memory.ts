import { Lane } from '../domain/lane.ts';
import type { FileObservation } from '../domain/observation.ts';
import type { Clock } from '../ports/clock.ts';
import type { FileStat, HostSession } from '../ports/host-session.ts';
import { observeFile, readHostFile, statHostFile } from './host-file.ts';

/** SFTP tells whole seconds: what is written so long after a look has another time of change than it saw. */
const SETTLED_MS = 2_000;
/** A file of the same size that somebody gave its former time of change is found after this. */
const BELIEVED_MS = 300_000;
/** An sftp-server may have 1,024 files open (RLIMIT_NOFILE in getrlimit(2)). */
const READ_AT_ONCE = 64;

type Present = Extract<FileObservation, { state: 'present' }>;

interface Kept {
  readonly stat: FileStat;
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

  /** As `readHostFile` and `observeFile`. */
  async observe(
    session: HostSession,
    host: string,
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<FileObservation> {
    const stat = await statHostFile(session, host, path, { signal });
    const nowMs = this.#clock.monotonicMs();
    const kept = this.#kept.get(path);
    const same = kept !== undefined && stat !== undefined && isSame(kept.stat, stat);
    if (same && kept.readMs - kept.sinceMs >= SETTLED_MS && nowMs - kept.readMs < BELIEVED_MS) {
      const { mode, uid, gid } = stat;
      return { ...kept.found, mode, uid, gid };
    }
    const read = () => readHostFile(session, host, path, { signal });
    const file = stat && (await this.#reading.run(read, { signal }));
    const found = observeFile(file);
    if (file === undefined || found.state === 'absent') this.#kept.delete(path);
    else {
      const sinceMs = same && isSame(kept.stat, file.stat) ? kept.sinceMs : nowMs;
      this.#kept.set(path, { stat: file.stat, sinceMs, readMs: nowMs, found });
    }
    return found;
  }
}

const isSame = (a: FileStat, b: FileStat): boolean => a.size === b.size && a.mtimeMs === b.mtimeMs;
