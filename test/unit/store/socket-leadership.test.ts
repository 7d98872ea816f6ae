import { existsSync, writeFileSync } from 'node:fs';
import { link, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { SocketLeadership } from '../../../src/store/socket-leadership.ts';
import { realClock as clock } from '../../contract/real-clock.ts';
import { eventually } from '../../support/eventually.ts';
import { scratchDirectory } from '../../support/scratch.ts';

const { signal } = new AbortController();

async function contest() {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  const root = scratch.path;
  const lock = join(root, 'lock');
  const leadership = new SocketLeadership(root, { clock, command: 'kacme serve' });
  const acquire = async () => {
    const mandate = await leadership.tryAcquire({ signal });
    if (mandate === undefined) throw new Error('the lock is not free');
    onTestFinished(() => mandate.release());
    return mandate;
  };
  return { root, lock, leadership, acquire };
}

test('the epoch goes on from entries whose process is gone, sockets or not', async () => {
  const { lock, acquire } = await contest();
  await mkdir(lock);
  await writeFile(join(lock, '41'), '');
  await writeFile(join(lock, 'claim-00000000'), '');
  expect((await acquire()).epoch).toBe(42);
  expect((await readdir(lock)).sort()).toEqual(['41', '42']);
});

test('a claim that comes too late for its epoch is void', async () => {
  const { root, lock, acquire } = await contest();
  await (await acquire()).release();
  // Between its look at the directory and its claim of epoch 2, others led up to epoch 7.
  const now = () => {
    if (!existsSync(join(lock, '7'))) writeFileSync(join(lock, '7'), '');
    return new Date();
  };
  const late = new SocketLeadership(root, { clock: { ...clock, now }, command: 'kacme serve' });
  const mandate = await late.tryAcquire({ signal });
  onTestFinished(() => mandate?.release());
  expect(mandate?.epoch).toBe(8);
  expect((await readdir(lock)).sort()).toEqual(['1', '7', '8']);
});

test('entries do not pile up', async () => {
  const { lock, acquire } = await contest();
  for (let i = 0; i < 30; i += 1) await (await acquire()).release();
  expect((await readdir(lock)).length).toBeLessThan(12);
});

test('the holder says who it is', async () => {
  const { leadership, acquire } = await contest();
  await acquire();
  expect(await leadership.holder({ signal })).toMatch(
    new RegExp(`^kacme serve \\(pid ${process.pid} on .+, since \\d{4}-\\d\\d-\\d\\dT.+Z\\)$`),
  );
});

test.each([
  { when: 'a newer epoch appears', meddle: (lock: string) => link(join(lock, '1'), join(lock, '2')) },
  { when: 'its entry vanishes', meddle: (lock: string) => rm(join(lock, '1')) },
  { when: 'the directory vanishes', meddle: (lock: string) => rm(lock, { recursive: true }) },
])('a mandate is lost as soon as $when', async ({ meddle }) => {
  const { lock, acquire } = await contest();
  const mandate = await acquire();
  await meddle(lock);
  expect(() => mandate.assertHeld()).toThrowError(expect.objectContaining({ code: 'ERR_MANDATE_LOST' }));
  expect(mandate.signal.reason).toMatchObject({ code: 'ERR_MANDATE_LOST' });
});

test('its signal aborts without anybody asking', async () => {
  const { lock, acquire } = await contest();
  const mandate = await acquire();
  await link(join(lock, '1'), join(lock, '2'));
  await eventually('the signal aborts', () => mandate.signal.aborted);
});

test('a path that is too long for a socket is refused with what to do', async () => {
  const { root } = await contest();
  const deep = join(root, 'x'.repeat(100));
  const leadership = new SocketLeadership(deep, { clock, command: 'kacme serve' });
  await expect(leadership.tryAcquire({ signal })).rejects.toMatchObject({
    code: 'ERR_STORE_UNUSABLE',
    message: expect.stringContaining('107'),
    remedy: expect.stringContaining('shorter'),
  });
});
