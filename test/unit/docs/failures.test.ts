import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..', '..');
const read = (name: string) => readFileSync(join(root, 'docs', name), 'utf8');

const rows = read('failures.md')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (?:What |--- )/.test(line))
  .map((line) => line.split('|').slice(1, -1));
const codeSpans = (cell: string) => Array.from(cell.matchAll(/`([^`]+)`/g), ([, text = '']) => text);

test.each(rows.map((cells) => ({ failure: cells[0]?.trim(), shownBy: codeSpans(cells.at(-1) ?? '') })))(
  'failures.md names tests that exist: $failure',
  ({ shownBy }) => {
    expect(shownBy.length).toBeGreaterThan(0);
    for (const name of shownBy) {
      const places = ['integration/NAME.test.ts', 'contract/NAME.contract.ts', 'unit/NAME.test.ts'].map(
        (place) => `test/${place.replace('NAME', name)}`,
      );
      expect(places.filter((path) => existsSync(join(root, path)))).toHaveLength(1);
    }
  },
);

test('failures.md names codes that errors.md explains', () => {
  const codes = new Set(codeSpans(rows.flat().join(' ')).filter((text) => text.startsWith('ERR_')));
  expect(codes.size).toBeGreaterThan(5);
  const explained = new Set(codeSpans(read('errors.md')));
  expect([...codes].filter((code) => !explained.has(code))).toEqual([]);
});
