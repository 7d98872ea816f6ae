import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { FileStateStore } from '../../../src/store/file-store.ts';
import { encodeJournal, journalOf } from '../../../src/store/journal.ts';
import { realClock as clock } from '../../contract/real-clock.ts';
import { heldMandate } from '../../support/mandate.ts';
import { scratchDirectory } from '../../support/scratch.ts';

const { signal } = new AbortController();
const effect = { signal, mandate: heldMandate() };

async function openStore() {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  const root = join(scratch.path, 'kacme');
  const store = await FileStateStore.open(root, { clock });
  onTestFinished(() => store.close());
  const put = (key: string, value: string, revision?: number) =>
    store.transact(
      {
        conditions: revision === undefined ? [] : [{ key, revision }],
        puts: [{ key, value }],
        deletes: [],
      },
      effect,
    );
  return { root, store, put };
}

/** Everything below `directory` with its permission bits. */
async function modesBelow(directory: string): Promise<ReadonlyMap<string, number>> {
  const found = await readdir(directory, { recursive: true });
  return new Map(
    await Promise.all(
      found.map(async (name) => [name, (await stat(join(directory, name))).mode & 0o777] as const),
    ),
  );
}

describe('on disk', () => {
  test('directories are 0700 and files 0600, whatever the umask', async () => {
    const umask = process.umask(0);
    onTestFinished(() => void process.umask(umask));
    const { root, put } = await openStore();
    await put('bundle/web/1', 'key');
    expect((await stat(root)).mode & 0o777).toBe(0o700);
    const modes = await modesBelow(root);
    expect(modes.size).toBeGreaterThan(5);
    for (const [name, mode] of modes) {
      const directory = (await stat(join(root, name))).isDirectory();
      expect([name, mode.toString(8)]).toEqual([name, directory ? '700' : '600']);
    }
  });

  test('each key has a file that a person can read', async () => {
    const { root, put } = await openStore();
    const revision = await put('account/ca', '{"a":1}');
    const file = JSON.parse(await readFile(join(root, 'data/account/ca+json'), 'utf8'));
    expect(file).toMatchObject({ key: 'account/ca', revision, value: '{"a":1}' });
  });

  test('no draft stays behind, and those of a killed writer are swept', async () => {
    const { root, put } = await openStore();
    await writeFile(join(root, 'draft', 'left-behind'), 'half a ke');
    await put('a', '1');
    expect(await readdir(join(root, 'draft'))).toEqual([]);
  });

  test("files that are not the store's are not taken for keys", async () => {
    const { root, store, put } = await openStore();
    await put('a', '1');
    await writeFile(join(root, 'data', 'a+json~'), 'an editor was here');
    await mkdir(join(root, 'data', 'lost+found'));
    expect((await store.list('', { signal })).map(({ key }) => key)).toEqual(['a']);
  });
});

describe('a transaction that was committed but not applied', () => {
  async function committed() {
    const opened = await openStore();
    await opened.put('a', 'old');
    await opened.put('b', 'old');
    const journal = journalOf(3, {
      conditions: [],
      puts: [
        { key: 'a', value: 'new' },
        { key: 'c', value: 'new' },
      ],
      deletes: ['b'],
    });
    await writeFile(join(opened.root, 'journal'), encodeJournal(journal), { mode: 0o600 });
    return opened;
  }

  test('is seen whole by readers', async () => {
    const { root } = await committed();
    const reader = await FileStateStore.open(root, { clock, readOnly: true });
    onTestFinished(() => reader.close());
    expect(await reader.list('', { signal })).toEqual([
      { key: 'a', value: 'new', revision: 3 },
      { key: 'c', value: 'new', revision: 3 },
    ]);
    expect(await reader.get('b', { signal })).toBeUndefined();
    expect(await readFile(join(root, 'data/a+json'), 'utf8')).toContain('old');
  });

  test('is applied before the next one', async () => {
    const { root, put, store } = await committed();
    expect(await put('d', 'next')).toBe(4);
    expect((await store.list('', { signal })).map(({ key, revision }) => [key, revision])).toEqual([
      ['a', 3],
      ['c', 3],
      ['d', 4],
    ]);
    expect(await readdir(join(root, 'data'))).toEqual(expect.not.arrayContaining(['b+json']));
  });

  test('overrides a file that a power cut damaged while it was applied', async () => {
    const { root, put, store } = await committed();
    await writeFile(join(root, 'data/a+json'), '');
    expect(await store.get('a', { signal })).toMatchObject({ value: 'new' });
    await put('d', 'next');
    expect(await store.get('a', { signal })).toMatchObject({ value: 'new', revision: 3 });
  });
});

describe('a damaged file', () => {
  async function damaged() {
    const opened = await openStore();
    await opened.put('bundle/web/1', 'SECRET one');
    await opened.put('bundle/web/2', 'SECRET two');
    await opened.put('account/ca', 'account');
    const path = join(opened.root, 'data/bundle/web/1+json');
    const content = (await readFile(path, 'utf8')).slice(0, -30);
    await writeFile(path, content);
    return { ...opened, path, content };
  }

  test('is named with its path and a remedy, and kept aside once', async () => {
    const { root, store, path, content } = await damaged();
    for (let i = 0; i < 2; i += 1) {
      await expect(store.get('bundle/web/1', { signal })).rejects.toMatchObject({
        code: 'ERR_STORE_CORRUPT',
        retry: 'never',
        message: expect.stringContaining(path),
        remedy: expect.stringMatching(/back-up/),
      });
    }
    const kept = await readdir(join(root, 'corrupt'));
    expect(kept).toEqual([expect.stringMatching(/^bundle\+web\+1\.[0-9a-f]{16}$/)]);
    expect(await readFile(join(root, 'corrupt', kept[0] ?? ''), 'utf8')).toBe(content);
  });

  test('never has its content in the message', async () => {
    const { store } = await damaged();
    const error: unknown = await store.get('bundle/web/1', { signal }).catch((reason: unknown) => reason);
    expect(String(error)).not.toContain('SECRET');
  });

  test.each([
    { how: 'put as new', change: { conditions: [{ key: 'bundle/web/1', revision: 0 }] } },
    { how: 'put without a condition', change: {} },
    { how: 'deleted', change: { puts: [], deletes: ['bundle/web/1'] } },
  ])('is not overwritten when it is $how', async ({ change }) => {
    const { store, path, content } = await damaged();
    const transaction = {
      conditions: [],
      puts: [{ key: 'bundle/web/1', value: 'new' }],
      deletes: [],
      ...change,
    };
    await expect(store.transact(transaction, effect)).rejects.toMatchObject({ code: 'ERR_STORE_CORRUPT' });
    expect(await readFile(path, 'utf8')).toBe(content);
  });

  test('does not touch the others: they are read and written', async () => {
    const { store, put } = await damaged();
    expect(await store.get('bundle/web/2', { signal })).toMatchObject({ value: 'SECRET two' });
    expect(await store.list('account/', { signal })).toHaveLength(1);
    await put('bundle/web/2', 'changed');
  });

  test('makes a list that would lack it fail, and check names all of them', async () => {
    const { root, store, path } = await damaged();
    await writeFile(join(root, 'data/account/ca+json'), '{}');
    await store.transact({ conditions: [], puts: [{ key: 'x', value: '' }], deletes: [] }, effect);
    await writeFile(join(root, 'data/account/ca+json'), '{}');
    await expect(store.list('bundle/', { signal })).rejects.toMatchObject({ code: 'ERR_STORE_CORRUPT' });
    expect(await store.check({ signal })).toEqual([
      expect.objectContaining({ key: 'account/ca' }),
      expect.objectContaining({ key: 'bundle/web/1', path }),
    ]);
  });

  test('is copied nowhere by a reader', async () => {
    const { root } = await damaged();
    const reader = await FileStateStore.open(root, { clock, readOnly: true });
    await expect(reader.get('bundle/web/1', { signal })).rejects.toMatchObject({ code: 'ERR_STORE_CORRUPT' });
    expect(await readdir(root)).not.toContain('corrupt');
    await reader.close();
  });

  test('the journal is refused whole, and its remedy says what removing it costs', async () => {
    const { root, store, put } = await damaged();
    await writeFile(join(root, 'journal'), '{"revision": 1}');
    await expect(store.get('account/ca', { signal })).rejects.toMatchObject({
      code: 'ERR_STORE_CORRUPT',
      remedy: expect.stringMatching(/last transaction/),
    });
    await expect(put('a', '1')).rejects.toMatchObject({ code: 'ERR_STORE_CORRUPT' });
  });
});
