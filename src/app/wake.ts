import { scopedSignal } from '../domain/scoped-signal.ts';
import type { Clock } from '../ports/clock.ts';

/** A sleep that others can end. A wake that comes while nobody sleeps ends the next sleep at once. */
export class Wake {
  #pending = false;
  #wakeUp: () => void = () => {};

  wake(): void {
    this.#pending = true;
    this.#wakeUp();
  }

  /** Rejects with `signal.reason` when aborted. */
  async sleep(ms: number, clock: Clock, { signal }: { signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    if (!this.#pending) {
      const alarm = new AbortController();
      this.#wakeUp = () => alarm.abort();
      using either = scopedSignal(signal, alarm.signal);
      try {
        await clock.sleep(ms, { signal: either.signal });
      } catch (error) {
        signal.throwIfAborted();
        if (!alarm.signal.aborted) throw error;
      } finally {
        this.#wakeUp = () => {};
      }
    }
    this.#pending = false;
  }
}
