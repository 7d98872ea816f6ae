import { createHash } from 'node:crypto';
import type { Entry } from '../ports/state-store.ts';

/** Either what a file holds or why it cannot be trusted. */
export type Decoded<T> =
  | { readonly state: 'intact'; readonly content: T }
  | { readonly state: 'damaged'; readonly reason: string };

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export function damaged(reason: string): { readonly state: 'damaged'; readonly reason: string } {
  return { state: 'damaged', reason };
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isRevision(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** Parses a file that kacme wrote as one JSON object. */
export function decodeObject(text: string): Decoded<Readonly<Record<string, unknown>>> {
  if (text.trim() === '') return damaged('it is empty');
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    // The parser quotes the text, which may be a key: its message is left out.
    return damaged('it is not JSON (cut off or overwritten)');
  }
  return isObject(content) ? { state: 'intact', content } : damaged('it is not a JSON object');
}

const checksumOf = ({ key, revision, value }: Entry): string => sha256(`${key}\n${revision}\n${value}`);

/** The file of one key: readable for people, and any changed byte in it is noticed. */
export function encodeEntry(entry: Entry): string {
  const { key, revision, value } = entry;
  return `${JSON.stringify({ key, revision, checksum: checksumOf(entry), value }, null, 2)}\n`;
}

export function decodeEntry(key: string, text: string): Decoded<Entry> {
  const decoded = decodeObject(text);
  if (decoded.state === 'damaged') return decoded;
  const { key: storedKey, revision, checksum, value } = decoded.content;
  if (typeof storedKey !== 'string' || !isRevision(revision) || typeof value !== 'string') {
    return damaged('it lacks key, revision or value');
  }
  if (storedKey !== key) return damaged(`it belongs to another key, "${storedKey}"`);
  const entry = { key, revision, value };
  return checksum === checksumOf(entry)
    ? { state: 'intact', content: entry }
    : damaged('its checksum does not fit its content');
}
