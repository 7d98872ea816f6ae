/** Enough for what went wrong, which stands at the end. */
const KEPT_BYTES = 8 * 1024;

/** The end of what a command says, whichever stream it says it on. */
export class CommandOutput {
  #kept = Buffer.alloc(0);

  readonly add = (chunk: Buffer): void => {
    this.#kept = Buffer.concat([this.#kept, chunk]).subarray(-KEPT_BYTES);
  };

  get bytes(): Buffer {
    return this.#kept;
  }

  toString(): string {
    return this.#kept.toString('utf8').trim();
  }
}
