/** What was started, to be ended in reverse order; as AsyncDisposableStack, which came with Node 24. */
export class Cleanup {
  readonly #steps: (() => PromiseLike<unknown>)[] = [];

  add(step: () => PromiseLike<unknown>): void {
    this.#steps.push(step);
  }

  /** Takes every step, also after one that fails; then throws what failed. */
  readonly close = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join('; '));
    if (failures.length === 1) throw failures[0];
  };
}
