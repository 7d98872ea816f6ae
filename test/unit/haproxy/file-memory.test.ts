import { expect, test } from 'vitest';
import { FileMemory } from '../../../src/haproxy/file-memory.ts';
import { KnownContents } from '../../../src/haproxy/known-contents.ts';
import type { FileStat, HostSession } from '../../../src/ports/host-session.ts';

const PATH = '/etc/haproxy/site.pem';
const SECOND_MS = 1_000;

/** One file that a test can change, and how often it was read. */
function fixture() {
  const file = { content: 'one', mode: 0o600, mtimeMs: 50 * SECOND_MS, reads: 0, missing: false };
  let nowMs = 0;
  const stat = (): FileStat => ({
    mode: file.mode,
    uid: 1,
    gid: 1,
    size: file.content.length,
    mtimeMs: file.mtimeMs,
    type: 'file',
  });
  const session: Pick<HostSession, 'stat' | 'readFile'> = {
    stat: async () => (file.missing ? undefined : stat()),
    readFile: async () => {
      file.reads += 1;
      return Buffer.from(file.content);
    },
  };
  const memory = new FileMemory(new KnownContents(), { monotonicMs: () => nowMs });
  const look = async (atMs: number, signal: AbortSignal) => {
    nowMs = atMs;
    // The memory asks for nothing else.
    return memory.observe(session as HostSession, 'pool/host', PATH, { signal });
  };
  return { file, look };
}

test('an unchanged file is not read again once its time of change can tell every later one', async ({
  signal,
}) => {
  const { file, look } = fixture();
  const first = await look(0, signal);
  await look(1 * SECOND_MS, signal);
  await look(3 * SECOND_MS, signal);
  expect(file.reads).toBe(3);
  expect(await look(30 * SECOND_MS, signal)).toEqual(first);
  expect(file.reads).toBe(3);
});

test('what is read again and holds the same is not judged again', async ({ signal }) => {
  const { look } = fixture();
  const contentOf = async (atMs: number) => {
    const found = await look(atMs, signal);
    return found.state === 'present' ? found.content : undefined;
  };
  const first = await contentOf(0);
  expect(first).toBeDefined();
  expect(await contentOf(1 * SECOND_MS)).toBe(first);
});

test.for([
  { what: 'size', change: { content: 'other' } },
  { what: 'time of change', change: { content: 'two', mtimeMs: 51 * SECOND_MS } },
])('a file of another $what is read at once', async ({ change }, { signal }) => {
  const { file, look } = fixture();
  const before = await look(0, signal);
  await look(30 * SECOND_MS, signal);
  Object.assign(file, change);
  const after = await look(60 * SECOND_MS, signal);
  expect(file.reads).toBe(3);
  expect(after).not.toEqual(before);
});

test('a wrong mode is seen without reading', async ({ signal }) => {
  const { file, look } = fixture();
  await look(0, signal);
  await look(30 * SECOND_MS, signal);
  file.mode = 0o644;
  expect(await look(60 * SECOND_MS, signal)).toMatchObject({ mode: 0o644 });
  expect(file.reads).toBe(2);
});

test('content under the former size and time of change is found within five minutes', async ({ signal }) => {
  const { file, look } = fixture();
  const before = await look(0, signal);
  await look(30 * SECOND_MS, signal);
  file.content = 'two';
  expect(await look(60 * SECOND_MS, signal)).toEqual(before);
  expect(await look(331 * SECOND_MS, signal)).not.toEqual(before);
});

test('a file that is gone is absent, and read when it is back', async ({ signal }) => {
  const { file, look } = fixture();
  await look(0, signal);
  await look(30 * SECOND_MS, signal);
  file.missing = true;
  expect(await look(60 * SECOND_MS, signal)).toEqual({ state: 'absent' });
  file.missing = false;
  expect(await look(90 * SECOND_MS, signal)).toMatchObject({ state: 'present' });
  expect(file.reads).toBe(3);
});
