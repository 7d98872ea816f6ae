import { watch } from 'node:fs';
import { basename } from 'node:path';
import type { Clock } from '../ports/clock.ts';
import type { Change, Entry } from '../ports/state-store.ts';

/** Where the kernel cannot notify (no inotify watch left, odd file systems), a change is seen after this. */
const POLL_MS = 5_000;

/** What differs between two states of a prefix, by revision. */
export function changesBetween(
  before: ReadonlyMap<string, Entry>,
  after: ReadonlyMap<string, Entry>,
): readonly Change[] {
  const changed = [...after.values()].filter(({ key, revision }) => before.get(key)?.revision !== revision);
  const gone = [...before.keys()].filter((key) => !after.has(key));
  return [
    ...changed.map((entry) => ({ key: entry.key, entry })),
    ...gone.map((key) => ({ key, entry: undefined })),
  ];
}

/**
 * Says that something may have changed: every transaction, of this or another process, replaces the journal.
 * A wake that comes while nobody waits is kept for the next wait, so that no change is lost.
 */
export class ChangeSignal implements Disposable {
  readonly #stopWatching: () => void;
  #pending = false;
  #wake: (() => void) | undefined;

  constructor(root: string, journalPath: string) {
    const watcher = watch(root, { persistent: false }, (_event, name) => {
      if (name === null || name === basename(journalPath)) this.wake();
    });
    // The poll still sees what this watcher no longer does.
    watcher.on('error', () => watcher.close());
    this.#stopWatching = () => watcher.close();
  }

  wake(): void {
    this.#pending = true;
    this.#wake?.();
  }

  /** Resolves at the next wake, after a while without one, or when `signal` aborts. */
  async wait(clock: Clock, { signal }: { signal: AbortSignal }): Promise<void> {
    const done = new AbortController();
    const over = AbortSignal.any([signal, done.signal]);
    if (!this.#pending && !signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      // It rejects only because it was aborted: by `signal`, which ends the wait, or below.
      const slept = clock.sleep(POLL_MS, { signal: over }).catch(() => undefined);
      await Promise.race([woken, slept]);
      done.abort();
      await slept;
    }
    this.#wake = undefined;
    this.#pending = false;
  }

  [Symbol.dispose](): void {
    this.#stopWatching();
  }
}
