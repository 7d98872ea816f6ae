import { KacmeError } from '../domain/errors.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';

/** Undoing is an effect too. Its way into the host is not always the one that the change began with. */
export interface UndoOptions extends EffectOptions {
  readonly session: HostSession;
}

/** Resolves to what it did, in words, or to undefined when there was nothing to undo. */
export type Undo = (options: UndoOptions) => Promise<string | undefined>;

export interface Unwound {
  readonly undone: readonly string[];
  readonly failed: readonly string[];
  /** What the holder of the mandate has to look after, since this process no longer is it. */
  readonly left: readonly string[];
}

/**
 * The ways back of the steps taken so far. A way back is registered before its step acts, since the answer to
 * a step may be lost with the connection: it must find out itself whether there is something to undo.
 */
export class Checkpoint {
  readonly #waysBack: { readonly what: string; readonly undo: Undo }[] = [];

  /** `what` names the thing to be restored, for the message when that fails. */
  guard(what: string, undo: Undo): void {
    this.#waysBack.push({ what, undo });
  }

  get isEmpty(): boolean {
    return this.#waysBack.length === 0;
  }

  /**
   * Last in, first out; goes on after a failure, so that as much as possible is restored, unless that is
   * `ERR_MANDATE_LOST`. Never throws.
   */
  async unwind(open: () => Promise<UndoOptions>): Promise<Unwound> {
    const undone: string[] = [];
    const failed: string[] = [];
    const left: string[] = [];
    for (let way = this.#waysBack.pop(); way !== undefined; way = this.#waysBack.pop()) {
      try {
        const done = await way.undo(await open());
        if (done !== undefined) undone.push(done);
      } catch (error) {
        if (error instanceof KacmeError && error.code === 'ERR_MANDATE_LOST') {
          left.push(
            way.what,
            ...this.#waysBack
              .splice(0)
              .reverse()
              .map(({ what }) => what),
          );
        } else failed.push(`${way.what} (${error instanceof Error ? error.message : String(error)})`);
      }
    }
    return { undone, failed, left };
  }
}
