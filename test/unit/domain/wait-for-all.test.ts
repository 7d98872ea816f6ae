import { expect, test } from 'vitest';
import { waitForAll } from '../../../src/domain/wait-for-all.ts';

test('gives every result in order', async () => {
  expect(await waitForAll([Promise.resolve(1), Promise.resolve(2)])).toEqual([1, 2]);
});

test('rejects with the first failure in order, but not before the last task has ended', async () => {
  let end: () => void = () => {};
  const slow = new Promise<void>((resolve) => {
    end = resolve;
  });
  let settled = false;
  const all = waitForAll([Promise.reject(new Error('first')), slow]).finally(() => {
    settled = true;
  });
  all.catch(() => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  expect(settled).toBe(false);
  end();
  await expect(all).rejects.toThrow('first');
});
