import * as z from 'zod';
import { KacmeError } from '../domain/errors.ts';
import type { Entry, StateStore, Versioned } from '../ports/state-store.ts';

/**
 * One kind of record in the store: where it lies and how its text is read and written. `Id` are the segments
 * of its key after the name of the kind.
 */
export interface RecordKind<Id extends readonly string[], T> {
  readonly name: string;
  key(...id: Id): string;
  /**
   * Migrates a record of an older schema. Throws `ERR_STORE_SCHEMA` for a newer one, `ERR_STORE_CORRUPT` for
   * one that does not fit its schema; neither quotes the record, which may hold a key.
   */
  parse(entry: Entry): Versioned<T>;
  serialize(value: T): string;
}

/** A record with its place. */
export interface StoredRecord<T> extends Versioned<T> {
  readonly key: string;
}

export interface RecordDefinition<Id extends readonly string[], T> {
  readonly name: string;
  readonly data: z.ZodType<T>;
  /** `migrations[n]` turns data of schema n + 1 into data of schema n + 2; the last one gives the present schema. */
  readonly migrations: readonly ((data: unknown) => unknown)[];
  /** Segments of the key; as they come when undefined. */
  readonly segments?: (...id: Id) => readonly string[];
}

const Envelope = z.object({ schema: z.int().positive(), data: z.unknown() });

export function defineRecord<Id extends readonly string[], T>({
  name,
  data,
  migrations,
  segments = (...id) => id,
}: RecordDefinition<Id, T>): RecordKind<Id, T> {
  const present = migrations.length + 1;
  return {
    name,
    key: (...id) => [name, ...segments(...id)].join('/'),
    serialize: (value) => JSON.stringify({ schema: present, data: value }),
    parse({ key, revision, value: text }) {
      const { schema, data: stored } = check(key, Envelope, parseJson(key, text));
      if (schema > present) throw tooNew(key, schema, present);
      return { revision, value: check(key, data, migrate(key, migrations.slice(schema - 1), stored)) };
    },
  };
}

/** An id of one segment may be given bare. */
export type RecordId<Id extends readonly string[]> = Id | (Id extends readonly [string] ? string : never);

/** Resolves to undefined if there is none. */
export async function loadRecord<Id extends readonly string[], T>(
  store: Pick<StateStore, 'get'>,
  kind: RecordKind<Id, T>,
  id: RecordId<Id>,
  options: { signal: AbortSignal },
): Promise<Versioned<T> | undefined> {
  const entry = await store.get(keyOf(kind, id), options);
  return entry === undefined ? undefined : kind.parse(entry);
}

/** Every record of a kind whose key begins with the segments `within` (none: all of the kind), sorted by key. */
export async function listRecords<Id extends readonly string[], T>(
  store: Pick<StateStore, 'list'>,
  kind: RecordKind<Id, T>,
  within: readonly string[],
  options: { signal: AbortSignal },
): Promise<readonly StoredRecord<T>[]> {
  const entries = await store.list(`${[kind.name, ...within].join('/')}/`, options);
  return entries.map((entry) => ({ key: entry.key, ...kind.parse(entry) }));
}

function keyOf<Id extends readonly string[], T>(kind: RecordKind<Id, T>, id: RecordId<Id>): string {
  // A bare string is only accepted where Id is [string].
  const segments = (typeof id === 'string' ? [id] : id) as Id;
  return kind.key(...segments);
}

function migrate(key: string, steps: readonly ((data: unknown) => unknown)[], stored: unknown): unknown {
  try {
    return steps.reduce((data, step) => step(data), stored);
  } catch (error) {
    throw invalid(key, 'a record of its older schema should look different', error);
  }
}

function parseJson(key: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser quotes the text, which may be a key: its message is left out.
    throw invalid(key, 'it is not JSON');
  }
}

function check<T>(key: string, schema: z.ZodType<T>, data: unknown): T {
  const parsed = schema.safeParse(data);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'record'}: ${message}`);
  throw invalid(key, issues.join('; '));
}

function invalid(key: string, why: string, cause?: unknown): KacmeError {
  return new KacmeError('ERR_STORE_CORRUPT', `cannot read the record "${key}": ${why}`, {
    retry: 'never',
    remedy: 'restore the store from a back-up',
    ...(cause === undefined ? {} : { cause }),
  });
}

function tooNew(key: string, schema: number, present: number): KacmeError {
  return new KacmeError(
    'ERR_STORE_SCHEMA',
    `cannot read the record "${key}": its schema is ${schema}, this kacme knows up to ${present}`,
    { retry: 'never', remedy: 'upgrade kacme, or restore a back-up made by this version' },
  );
}
