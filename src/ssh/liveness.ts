import type { Client } from 'ssh2';

/** Between two questions while an operation waits. */
const EVERY_MS = 500;

/**
 * Whether the other side still answers, asked only while an operation waits for it: a thousand idle hosts would cost
 * 2,000 packets a second. What is quick is never asked about; a host that froze long ago is noticed as soon as
 * somebody wants something of it.
 */
export class Liveness {
  readonly #client: Client;
  /** So many questions in a row may stay without an answer. */
  readonly #patience: number;
  readonly #onDead: () => void;
  #waiting = 0;
  #unanswered = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(client: Client, { patience, onDead }: { patience: number; onDead: () => void }) {
    this.#client = client;
    this.#patience = patience;
    this.#onDead = onDead;
  }

  /** An operation begins; the returned function ends it (once). */
  enter(): () => void {
    this.#waiting += 1;
    if (this.#waiting === 1) {
      this.#unanswered = 0;
      this.#timer = setInterval(() => this.#ask(), EVERY_MS);
    }
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#waiting -= 1;
      if (this.#waiting === 0) clearInterval(this.#timer);
    };
  }

  #ask(): void {
    if (this.#unanswered >= this.#patience) {
      clearInterval(this.#timer);
      this.#onDead();
      return;
    }
    this.#unanswered += 1;
    this.#client._callbacks.push(() => {
      this.#unanswered = 0;
    });
    this.#client._protocol.ping();
  }
}
