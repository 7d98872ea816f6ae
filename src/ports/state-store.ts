import type { EffectOptions } from './leadership.ts';

/**
 * A value and the store-wide revision of the transaction that wrote it. Revisions only grow; transactions that were asked
 * for side by side and have no key in common may share one.
 */
export interface Versioned<T> {
  readonly value: T;
  readonly revision: number;
}

export interface Entry extends Versioned<string> {
  readonly key: string;
}

/** `revision` 0 demands that the key does not exist. */
export interface Condition {
  readonly key: string;
  readonly revision: number;
}

export interface Transaction {
  readonly conditions: readonly Condition[];
  readonly puts: readonly { readonly key: string; readonly value: string }[];
  readonly deletes: readonly string[];
}

/** `entry` is undefined when the key is gone. Quick successive changes of one key may arrive as one. */
export interface Change {
  readonly key: string;
  readonly entry: Entry | undefined;
}

/**
 * A small replicated map. Keys are slash-separated segments of `[a-z0-9._-]` (case kept out on purpose: some
 * file systems fold it); values are text, at most 1 MiB.
 */
export interface StateStore {
  /** Resolves to undefined if the key does not exist. Throws `ERR_STORE_CORRUPT` for a damaged one. */
  get(key: string, options: { signal: AbortSignal }): Promise<Entry | undefined>;
  /** Every key that starts with `prefix`, sorted by key. */
  list(prefix: string, options: { signal: AbortSignal }): Promise<readonly Entry[]>;
  /**
   * All or nothing, atomic and durable, also over a power cut. Resolves to the new revision. Throws
   * `ERR_STORE_CONFLICT` if a condition does not hold, `ERR_MANDATE_LOST` for a deposed writer.
   */
  transact(transaction: Transaction, options: EffectOptions): Promise<number>;
  /** The state of every key under `prefix` first, then changes, until `signal` aborts (then it ends quietly). */
  watch(prefix: string, options: { signal: AbortSignal }): AsyncIterable<Change>;
  close(): Promise<void>;
}
