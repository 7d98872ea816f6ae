import { chmod, chown, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { FileStateStore } from '../../../src/store/file-store.ts';
import { networkFileSystem } from '../../../src/store/store-root.ts';
import { realClock as clock } from '../../contract/real-clock.ts';
import { heldMandate } from '../../support/mandate.ts';
import { scratchDirectory } from '../../support/scratch.ts';

const { signal } = new AbortController();

async function scratchPath(): Promise<string> {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  return scratch.path;
}

test('the directory is created, or narrowed to 0700 when it was wider', async () => {
  const root = await scratchPath();
  await chmod(root, 0o755);
  const store = await FileStateStore.open(root, { clock });
  expect((await stat(root)).mode & 0o777).toBe(0o700);
  await store.close();
});

test('a store made by a later kacme is refused, for reading too', async () => {
  const root = await scratchPath();
  await writeFile(join(root, 'format'), '2\n');
  for (const readOnly of [false, true]) {
    await expect(FileStateStore.open(root, { clock, readOnly })).rejects.toMatchObject({
      code: 'ERR_STORE_SCHEMA',
      remedy: expect.stringMatching(/upgrade kacme/),
    });
  }
});

test.each([
  { when: 'unreadable', content: 'x' },
  { when: 'empty', content: '' },
  { when: 'missing beside data', content: undefined },
])('a format that is $when is named, not guessed', async ({ content }) => {
  const root = await scratchPath();
  await mkdir(join(root, 'data'));
  if (content !== undefined) await writeFile(join(root, 'format'), content);
  await expect(FileStateStore.open(root, { clock })).rejects.toMatchObject({
    code: 'ERR_STORE_CORRUPT',
    message: expect.stringContaining(join(root, 'format')),
  });
});

test.skipIf(process.geteuid?.() !== 0)('a directory of somebody else is refused with both uids', async () => {
  const root = await scratchPath();
  await chown(root, 4711, 4711);
  await expect(FileStateStore.open(root, { clock })).rejects.toMatchObject({
    code: 'ERR_STORE_UNUSABLE',
    message: expect.stringMatching(/uid 4711.*uid 0/),
    remedy: expect.stringContaining('chown'),
  });
});

test('a path that is no directory is refused', async () => {
  const root = join(await scratchPath(), 'file');
  await writeFile(root, '');
  await expect(FileStateStore.open(root, { clock })).rejects.toMatchObject({ code: 'ERR_STORE_UNUSABLE' });
});

test('reading where there is no store finds nothing and creates nothing', async () => {
  const path = await scratchPath();
  const root = join(path, 'kacme');
  const store = await FileStateStore.open(root, { clock, readOnly: true });
  expect(await store.list('', { signal })).toEqual([]);
  expect(await store.check({ signal })).toEqual([]);
  const write = store.transact(
    { conditions: [], puts: [{ key: 'a', value: '' }], deletes: [] },
    { signal, mandate: heldMandate() },
  );
  await expect(write).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
  expect(await readdir(path)).toEqual([]);
  await store.close();
});

test('network file systems are known by the type statfs gives', () => {
  expect(networkFileSystem(0x6969)).toBe('NFS');
  expect(networkFileSystem(0xff534d42 | 0)).toBe('CIFS');
  expect(networkFileSystem(0xef53)).toBeUndefined();
});
