/** Where traffic stops: before it goes on to the server, or after the server has answered. */
export type Side = 'before' | 'after';

export interface Hold {
  /** Resolves when something has come to a stop here. */
  readonly reached: Promise<void>;
  /** Lets it go on, unless who sent it is gone by then; what has not come yet is not stopped any more. */
  release(): void;
}

interface Trap {
  readonly what: RegExp;
  readonly side: Side;
  readonly reach: () => void;
  readonly released: Promise<void>;
}

/** Points at which a test stops what passes between two programs, to do something to one of them just then. */
export class Holds {
  readonly #traps = new Set<Trap>();

  /** Stops the next one that matches; those after it pass. */
  next(what: RegExp, side: Side): Hold {
    let reach: () => void = () => {};
    let release: () => void = () => {};
    const reached = new Promise<void>((resolve) => {
      reach = resolve;
    });
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const trap = { what, side, reach, released };
    this.#traps.add(trap);
    return {
      reached,
      release: () => {
        this.#traps.delete(trap);
        release();
      },
    };
  }

  /** Resolves at once when nobody wants to hold this. */
  async pass(what: string, side: Side): Promise<void> {
    for (const trap of this.#traps) {
      if (trap.side !== side || !trap.what.test(what)) continue;
      this.#traps.delete(trap);
      trap.reach();
      return trap.released;
    }
  }
}
