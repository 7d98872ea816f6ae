/**
 * The right to talk to the CA and to change hosts. One process at a time has it. It travels with every
 * effect, and the adapter calls `assertHeld` immediately before it sends.
 */
export interface Mandate {
  /** Grows with every new holder; the store refuses a write with an older one (fencing token). */
  readonly epoch: number;
  /** `Clock.monotonicMs` after which the mandate must not be used. Infinity where the kernel holds the lock. */
  readonly deadlineMs: number;
  /** Aborts, with `ERR_MANDATE_LOST` as its reason, as soon as the mandate is known to be lost. */
  readonly signal: AbortSignal;
  /** Throws `ERR_MANDATE_LOST` when lost, or when the deadline has passed. */
  assertHeld(): void;
  /** Gives it up. Idempotent. */
  release(): Promise<void>;
}

export interface Leadership {
  /** Resolves to undefined at once if somebody else holds it. */
  tryAcquire(options: { signal: AbortSignal }): Promise<Mandate | undefined>;
  /** Waits until it is free. */
  campaign(options: { signal: AbortSignal }): Promise<Mandate>;
  /** What the present holder says of itself, for messages; undefined when nobody holds it. */
  holder(options: { signal: AbortSignal }): Promise<string | undefined>;
}

/** Options of every call that has an effect outside this process. */
export interface EffectOptions {
  readonly signal: AbortSignal;
  readonly mandate: Mandate;
}
