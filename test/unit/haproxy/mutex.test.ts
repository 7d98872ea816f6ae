import { expect, test } from 'vitest';
import { Mutex } from '../../../src/haproxy/mutex.ts';

function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

test('tasks run one at a time, in the order of asking, also after a failure', async () => {
  const mutex = new Mutex();
  const seen: string[] = [];
  const first = gate();
  const tasks = [
    mutex.run(async () => {
      seen.push('first begins');
      await first.opened;
      seen.push('first ends');
      throw new Error('first fails');
    }),
    mutex.run(async () => seen.push('second')),
    mutex.run(async () => seen.push('third')),
  ];
  first.open();
  const outcomes = await Promise.allSettled(tasks);
  expect(outcomes[0]?.status).toBe('rejected');
  expect(seen).toEqual(['first begins', 'first ends', 'second', 'third']);
});

test('one that is aborted while it waits never runs and lets nobody overtake', async () => {
  const mutex = new Mutex();
  const seen: string[] = [];
  const first = gate();
  const controller = new AbortController();
  const running = mutex.run(async () => {
    await first.opened;
    seen.push('first ends');
  });
  const aborted = mutex.run(async () => seen.push('aborted one ran'), { signal: controller.signal });
  const last = mutex.run(async () => seen.push('last'));
  controller.abort(new Error('enough'));
  await expect(aborted).rejects.toThrow('enough');
  first.open();
  await Promise.all([running, last]);
  expect(seen).toEqual(['first ends', 'last']);
});
