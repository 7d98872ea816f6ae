import type { Clock } from '../ports/clock.ts';
import { SingleFlight } from './single-flight.ts';

/** Answers that are kept for a moment, so that many who ask the same side by side ask once. */
export class BriefMemory<T> {
  readonly #forMs: number;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #held = new Map<string, { readonly answer: T; readonly untilMs: number }>();
  readonly #asking = new SingleFlight<T>();

  constructor(forMs: number, clock: Pick<Clock, 'monotonicMs'>) {
    this.#forMs = forMs;
    this.#clock = clock;
  }

  /** What `ask` throws is not kept, nor an answer that `keep` refuses. */
  async of(
    key: string,
    { ask, keep }: { ask: (options: { signal: AbortSignal }) => Promise<T>; keep: (answer: T) => boolean },
    options: { signal: AbortSignal },
  ): Promise<T> {
    const held = this.#held.get(key);
    if (held !== undefined && held.untilMs > this.#clock.monotonicMs()) return held.answer;
    const answer = await this.#asking.run(key, ask, options);
    if (keep(answer)) this.remember(key, answer);
    return answer;
  }

  has(key: string): boolean {
    return (this.#held.get(key)?.untilMs ?? 0) > this.#clock.monotonicMs();
  }

  remember(key: string, answer: T): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [known, { untilMs }] of this.#held) if (untilMs <= nowMs) this.#held.delete(known);
    this.#held.set(key, { answer, untilMs: nowMs + this.#forMs });
  }

  forget(key: string): void {
    this.#held.delete(key);
  }
}
