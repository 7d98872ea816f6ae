import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

const repository = join(import.meta.dirname, '../../..');
const read = (path: string) => readFile(join(repository, path), 'utf8');

const code = (text: string): readonly string[] =>
  [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word);

/** What the page would write for a default; undefined where Kolla's own variables make it. */
function written(value: unknown): string | undefined {
  const text = typeof value === 'string' && value !== '' ? value : JSON.stringify(value);
  return text.includes('{{') ? undefined : text;
}

test('every variable of the role for Kolla is on its page, with its default', async () => {
  const defaults: Readonly<Record<string, unknown>> = parse(
    await read('roles-adapter/roles/kacme/defaults/main.yml'),
  );
  const page = await read('docs/kolla.md');
  const section = page.slice(page.indexOf('\n## Variables\n'), page.indexOf('\n## What is tested'));
  const [table = '', others = ''] = section.split('Those of the containers are');
  const rows = table
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const told = rows.flatMap(([, names = '', value = '']) => code(names).map((name) => ({ name, value })));
  const names = [...told.map(({ name }) => name), ...code(others)];
  expect(names.toSorted()).toEqual(Object.keys(defaults).toSorted());
  for (const { name, value } of told) {
    const expected = written(defaults[name]);
    if (expected !== undefined) expect({ name, value }).toEqual({ name, value: `\`${expected}\`` });
  }
});
