import type { Mandate } from '../ports/leadership.ts';
import type { Transaction } from '../ports/state-store.ts';

/** A transaction that waits for its turn. */
export interface Waiting {
  readonly transaction: Transaction;
  readonly signal: AbortSignal;
  readonly mandate: Mandate;
  readonly resolve: (revision: number) => void;
  readonly reject: (reason: unknown) => void;
}

/** What one commit may hold beside its first transaction: the journal is read as a whole with every key. */
const MAX_BYTES = 32 * 1024;

/**
 * Takes from `waiting` the first transaction and those after it that can be committed with it, by one write and at one
 * revision, as if each were alone: of the same mandate, and none changes a key that another one names. One that stays
 * keeps those back that touch its keys, so that nobody who depends on it overtakes it.
 */
export function takeBatch(waiting: Waiting[]): readonly Waiting[] {
  const [first] = waiting;
  if (first === undefined) return [];
  const changed = new Set<string>();
  const named = new Set<string>();
  let bytes = 0;
  const taken = new Set<Waiting>();
  for (const one of waiting) {
    const { transaction, mandate } = one;
    const changes = [...transaction.puts.map(({ key }) => key), ...transaction.deletes];
    const names = [...changes, ...transaction.conditions.map(({ key }) => key)];
    const apart = !names.some((key) => changed.has(key)) && !changes.some((key) => named.has(key));
    const size = transaction.puts.reduce((sum, { value }) => sum + Buffer.byteLength(value), 0);
    if (one === first || (apart && mandate === first.mandate && bytes + size <= MAX_BYTES)) {
      taken.add(one);
      bytes += size;
    }
    for (const key of changes) changed.add(key);
    for (const key of names) named.add(key);
  }
  const left = waiting.filter((one) => !taken.has(one));
  waiting.splice(0, waiting.length, ...left);
  return [...taken];
}

/** All of them as one; they are apart. */
export function merged(transactions: readonly Transaction[]): Transaction {
  return {
    conditions: transactions.flatMap(({ conditions }) => conditions),
    puts: transactions.flatMap(({ puts }) => puts),
    deletes: transactions.flatMap(({ deletes }) => deletes),
  };
}
