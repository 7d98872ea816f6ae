import { expect, test } from 'vitest';
import { KacmeError } from '../../../src/domain/errors.ts';
import { Checkpoint, type UndoOptions } from '../../../src/haproxy/checkpoint.ts';

// The ways back of these tests do not use what they are given.
const open = async (): Promise<UndoOptions> => Object.create(null);

test('the last step is undone first, and a failure does not keep the others from being undone', async () => {
  const checkpoint = new Checkpoint();
  const order: string[] = [];
  for (const step of ['one', 'two', 'three']) {
    checkpoint.guard(step, async () => {
      order.push(step);
      if (step === 'two') throw new Error('no way');
      return step === 'three' ? undefined : `${step} undone`;
    });
  }
  expect(await checkpoint.unwind(open)).toEqual({
    undone: ['one undone'],
    failed: ['two (no way)'],
    left: [],
  });
  expect(order).toEqual(['three', 'two', 'one']);
});

test('a host that cannot be reached again leaves every step undone, each named', async () => {
  const checkpoint = new Checkpoint();
  checkpoint.guard('file', async () => 'never');
  checkpoint.guard('memory', async () => 'never');
  const unwound = await checkpoint.unwind(async () => {
    throw new Error('host is down');
  });
  expect(unwound).toEqual({ undone: [], failed: ['memory (host is down)', 'file (host is down)'], left: [] });
});

test('a deposed writer undoes no more, and names what it leaves', async () => {
  const checkpoint = new Checkpoint();
  const tried: string[] = [];
  for (const step of ['one', 'two', 'three']) {
    checkpoint.guard(step, async () => {
      tried.push(step);
      if (step === 'two') throw new KacmeError('ERR_MANDATE_LOST', 'lost', { retry: 'later' });
      return `${step} undone`;
    });
  }
  expect(await checkpoint.unwind(open)).toEqual({
    undone: ['three undone'],
    failed: [],
    left: ['two', 'one'],
  });
  expect(tried).toEqual(['three', 'two']);
});
