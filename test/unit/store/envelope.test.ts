import { describe, expect, test } from 'vitest';
import { decodeEntry, encodeEntry } from '../../../src/store/envelope.ts';
import { decodeJournal, encodeJournal, journalOf, lookUp } from '../../../src/store/journal.ts';

const entry = { key: 'account/ca', revision: 7, value: 'line one\nline "two"' };
const text = encodeEntry(entry);

describe('the file of a key', () => {
  test('gives back what was put in', () => {
    expect(decodeEntry(entry.key, text)).toEqual({ state: 'intact', content: entry });
  });

  test.each([
    { damage: 'empty', content: '', reason: /empty/ },
    { damage: 'zeroes after a power cut', content: '\0'.repeat(512), reason: /not JSON/ },
    { damage: 'cut off', content: text.slice(0, -20), reason: /not JSON/ },
    { damage: 'other JSON', content: '[1]', reason: /not a JSON object/ },
    { damage: 'a missing value', content: '{"key":"account/ca","revision":7}', reason: /lacks/ },
    { damage: 'a changed value', content: text.replace('one', 'One'), reason: /checksum/ },
    { damage: 'a changed revision', content: text.replace('7', '8'), reason: /checksum/ },
    {
      damage: 'a changed checksum',
      content: text.replace(/"checksum": "../, '"checksum": "zz'),
      reason: /checksum/,
    },
    {
      damage: 'the file of another key',
      content: encodeEntry({ ...entry, key: 'account/b' }),
      reason: /another key/,
    },
  ])('is known to be damaged: $damage', ({ content, reason }) => {
    expect(decodeEntry(entry.key, content)).toEqual({
      state: 'damaged',
      reason: expect.stringMatching(reason),
    });
  });

  test('is never quoted in the reason', () => {
    const decoded = decodeEntry('a', 'SECRET{');
    expect(JSON.stringify(decoded)).not.toContain('SECRET');
  });
});

describe('the journal', () => {
  const journal = journalOf(9, {
    conditions: [],
    puts: [{ key: 'a', value: '1' }],
    deletes: ['b'],
  });

  test('gives back what was put in', () => {
    expect(decodeJournal(encodeJournal(journal))).toEqual({ state: 'intact', content: journal });
  });

  test.each([
    { damage: 'cut off', content: encodeJournal(journal).slice(0, 40) },
    { damage: 'changed', content: encodeJournal(journal).replace('"b"', '"c"') },
    { damage: 'empty', content: '' },
  ])('is known to be damaged: $damage', ({ content }) => {
    expect(decodeJournal(content)).toMatchObject({ state: 'damaged' });
  });

  test('tells put from deleted from unconcerned', () => {
    expect(lookUp(journal, 'a')).toEqual({ entry: { key: 'a', value: '1', revision: 9 } });
    expect(lookUp(journal, 'b')).toEqual({ entry: undefined });
    expect(lookUp(journal, 'c')).toBeUndefined();
  });
});
