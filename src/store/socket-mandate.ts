import { watch } from 'node:fs';
import type { KacmeError } from '../domain/errors.ts';
import type { Mandate } from '../ports/leadership.ts';
import { highestEpochNow, lockDirectory } from './lock-directory.ts';
import { mandateLost } from './store-errors.ts';

/** Held until the process ends or gives it up; lost when somebody meddles with the lock directory. */
export class SocketMandate implements Mandate {
  readonly epoch: number;
  readonly deadlineMs = Number.POSITIVE_INFINITY;
  readonly #root: string;
  readonly #lost = new AbortController();
  readonly #closeSocket: () => Promise<void>;
  readonly #stopWatching: () => void;
  #released: Promise<void> | undefined;

  constructor(root: string, epoch: number, closeSocket: () => Promise<void>) {
    this.epoch = epoch;
    this.#root = root;
    this.#closeSocket = closeSocket;
    this.#stopWatching = this.#watch();
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** Looks at the lock directory each time, which is local and takes some 20 microseconds. */
  assertHeld(): void {
    this.#look();
    this.#lost.signal.throwIfAborted();
  }

  /** Aborts `signal` too: what was begun under this mandate must not go on. */
  release(): Promise<void> {
    this.#lose(mandateLost('it gave the lock back'));
    this.#released ??= this.#closeSocket();
    return this.#released;
  }

  #look(): void {
    if (this.#lost.signal.aborted) return;
    try {
      const highest = highestEpochNow(this.#root);
      if (highest > this.epoch)
        this.#lose(mandateLost(`epoch ${highest} was granted after its own, ${this.epoch}`));
      if (highest < this.epoch)
        this.#lose(mandateLost(`its entry in ${lockDirectory(this.#root)} was removed`));
    } catch (error) {
      this.#lose(mandateLost(`${lockDirectory(this.#root)} cannot be read`, error));
    }
  }

  #lose(reason: KacmeError): void {
    if (this.#lost.signal.aborted) return;
    this.#stopWatching();
    this.#lost.abort(reason);
  }

  /** Only makes the signal abort early: what counts is `assertHeld`. */
  #watch(): () => void {
    try {
      const watcher = watch(lockDirectory(this.#root), { persistent: false }, () => this.#look());
      watcher.on('error', () => watcher.close());
      return () => watcher.close();
    } catch {
      // No inotify watch was left.
      return () => undefined;
    }
  }
}
