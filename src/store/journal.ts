import type { Entry, Transaction } from '../ports/state-store.ts';
import { type Decoded, damaged, decodeObject, isObject, isRevision, sha256 } from './envelope.ts';

/**
 * The last committed transaction, whole. It is replaced by the next one only after its changes are durable in
 * the files of its keys; until then, and so always, it overrides them for a reader. It also carries the
 * store's revision, which therefore outlives deleted keys.
 */
export interface Journal {
  readonly revision: number;
  readonly puts: readonly Entry[];
  readonly deletes: readonly string[];
}

export const EMPTY_JOURNAL: Journal = { revision: 0, puts: [], deletes: [] };

export function journalOf(revision: number, { puts, deletes }: Transaction): Journal {
  return { revision, puts: puts.map(({ key, value }) => ({ key, value, revision })), deletes };
}

/** `undefined`: the journal says nothing of this key. `{ entry: undefined }`: it is deleted. */
export function lookUp(journal: Journal, key: string): { readonly entry: Entry | undefined } | undefined {
  const entry = journal.puts.find((put) => put.key === key);
  if (entry !== undefined) return { entry };
  return journal.deletes.includes(key) ? { entry: undefined } : undefined;
}

export function encodeJournal({ revision, puts, deletes }: Journal): string {
  const body = { revision, puts: puts.map(({ key, value }) => ({ key, value })), deletes };
  return `${JSON.stringify({ ...body, checksum: sha256(JSON.stringify(body)) }, null, 2)}\n`;
}

export function decodeJournal(text: string): Decoded<Journal> {
  const decoded = decodeObject(text);
  if (decoded.state === 'damaged') return decoded;
  const { checksum, ...body } = decoded.content;
  if (checksum !== sha256(JSON.stringify(body))) return damaged('its checksum does not fit its content');
  const { revision, puts, deletes } = body;
  if (!isRevision(revision) || !Array.isArray(puts) || !Array.isArray(deletes)) {
    return damaged('it lacks revision, puts or deletes');
  }
  const entries: Entry[] = [];
  for (const put of puts as readonly unknown[]) {
    const { key, value } = isObject(put) ? put : {};
    if (typeof key !== 'string' || typeof value !== 'string')
      return damaged('one of its puts lacks key or value');
    entries.push({ key, value, revision });
  }
  return { state: 'intact', content: { revision, puts: entries, deletes: deletes.map(String) } };
}
