import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import type * as z from 'zod';
import { configJsonSchema } from '../../../src/config/json-schema.ts';
import { parseConfig } from '../../../src/config/load.ts';

type Schema = z.core.JSONSchema.BaseSchema;

const page = await readFile(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');

const defaults = keysOf(configJsonSchema());
const keys = Array.from(defaults.keys());

test('the schema is walked whole', () => {
  expect(keys).toContain('pools.NAME.ssh.sftp.exec');
  expect(keys).toContain('deployments[].copies');
});

describe('docs/configuration.md', () => {
  test.each(keys)('explains `%s`', (key) => {
    expect(page).toContain(`| \`${key}\` |`);
  });

  test.each(
    Array.from(defaults).filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value)),
  )('names the default of `%s`, %j', (key, value) => {
    const [, , , cell] =
      page
        .split('\n')
        .find((line) => line.startsWith(`| \`${key}\` |`))
        ?.split('|') ?? [];
    expect(cell?.replaceAll('"', '').trim()).toBe(`\`${value}\``);
  });

  test('explains no key that does not exist', () => {
    const explained = Array.from(page.matchAll(/^\| `([^`]+)` (?:\|[^|]*){3}\|$/gm), ([, key]) => key);
    expect(explained.filter((key) => key !== undefined && !keys.includes(key))).toEqual([]);
  });

  test.each(Array.from(page.matchAll(/```yaml\n(issuers:.*?)```/gs), ([, text = '']) => text))(
    'has an example that is valid as it stands (%#)',
    (text) => {
      expect(() => parseConfig([{ file: 'example.yaml', text }])).not.toThrow();
    },
  );
});

test('docs/operations.md asks at the control socket of the default configuration', async () => {
  const operations = await readFile(new URL('../../../docs/operations.md', import.meta.url), 'utf8');
  const example = page.match(/```yaml\n(issuers:.*?)```/s)?.[1] ?? '';
  const { control } = parseConfig([{ file: 'example.yaml', text: example }]);
  expect(operations).toContain(`--unix-socket ${control.socket} `);
});

/**
 * Every key by its path, with its default: `NAME` stands for a name the operator chooses, `[]` for the entries of
 * a list.
 */
function keysOf(schema: Schema, path = ''): Map<string, unknown> {
  const inside = (part: unknown, at: string) => (isSchema(part) ? Array.from(keysOf(part, at)) : []);
  return new Map([
    ...Object.entries(schema.properties ?? {}).flatMap(([key, part]): [string, unknown][] => {
      const at = path === '' ? key : `${path}.${key}`;
      return [[at, isSchema(part) ? part.default : undefined], ...inside(part, at)];
    }),
    ...inside(schema.additionalProperties, `${path}.NAME`),
    ...inside(schema.items, `${path}[]`),
    ...keysOfAlternatives(schema.anyOf ?? [], (part) => inside(part, path), path),
  ]);
}

/** A list of what may also stand alone has the same keys once more. */
function keysOfAlternatives(
  parts: readonly unknown[],
  inside: (part: unknown) => [string, unknown][],
  path: string,
): [string, unknown][] {
  const isList = (part: unknown) => isSchema(part) && part.type === 'array';
  const alone = parts.filter((part) => !isList(part)).flatMap(inside);
  const once = new Set(alone.map(([key]) => key));
  const inLists = parts.filter(isList).flatMap(inside);
  return [...alone, ...inLists.filter(([key]) => !once.has(key.replace(`${path}[]`, path)))];
}

function isSchema(part: unknown): part is Schema {
  return typeof part === 'object' && part !== null && !Array.isArray(part);
}
