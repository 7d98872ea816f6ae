import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';

const root = new URL('../../../', import.meta.url);

test('docs/errors.md explains every code once, and none that does not exist', async () => {
  const source = await readFile(new URL('src/domain/errors.ts', root), 'utf8');
  const union = /export type ErrorCode =([^;]+);/.exec(source)?.[1] ?? '';
  const codes = Array.from(union.matchAll(/'(ERR_[A-Z_]+)'/g), ([, code]) => code);
  const page = await readFile(new URL('docs/errors.md', root), 'utf8');
  const explained = Array.from(page.matchAll(/^\| `(ERR_[A-Z_]+)` \|/gm), ([, code]) => code);

  expect(codes.length).toBeGreaterThan(0);
  expect(explained).toEqual(codes);
});

test('every row of docs/errors.md says what it means, what kacme does and what to do', async () => {
  const page = await readFile(new URL('docs/errors.md', root), 'utf8');
  const rows = page.split('\n').filter((line) => line.startsWith('| `ERR_'));
  for (const row of rows) {
    expect(row).toMatch(/^\| `\w+` \| [A-Za-z].+\. \| (?:now|later|never)[a-z, ]* \| [A-Z].+\. \|$/);
  }
});
