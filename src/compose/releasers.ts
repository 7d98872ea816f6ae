import type { Logger } from 'pino';

/** What must be given back at the end, last in first out. */
export class Releasers {
  readonly #releasers: { readonly name: string; readonly release: () => Promise<void> }[] = [];

  add(name: string, release: () => Promise<void>): void {
    this.#releasers.push({ name, release });
  }

  /** One that fails is logged and does not keep the others from being released. Idempotent. */
  async releaseAll(log: Logger): Promise<void> {
    for (;;) {
      const next = this.#releasers.pop();
      if (next === undefined) return;
      try {
        await next.release();
      } catch (error) {
        log.error({ err: error, resource: next.name }, 'release failed');
      }
    }
  }
}
