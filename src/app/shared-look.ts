/**
 * Lets many who ask side by side share one answer that is looked up after each of them asked. Whoever comes while one is
 * under way waits for the next: that one may have seen what was before.
 */
export class SharedLook<T> {
  readonly #look: () => Promise<T>;
  #present: Promise<unknown> = Promise.resolve();
  #next: Promise<T> | undefined;

  constructor(look: () => Promise<T>) {
    this.#look = look;
  }

  ask(): Promise<T> {
    this.#next ??= this.#after(this.#present);
    return this.#next;
  }

  async #after(before: Promise<unknown>): Promise<T> {
    await Promise.allSettled([before]);
    const looking = this.#look();
    this.#present = looking;
    this.#next = undefined;
    return looking;
  }
}
