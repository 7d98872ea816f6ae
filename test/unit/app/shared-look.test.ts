import { expect, test } from 'vitest';
import { SharedLook } from '../../../src/app/shared-look.ts';

function looks() {
  const open: { answer(value: string): void; fail(error: Error): void }[] = [];
  const look = new SharedLook(() => new Promise<string>((answer, fail) => void open.push({ answer, fail })));
  return { look, open };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('those who ask side by side share one look', async () => {
  const { look, open } = looks();
  const answers = Promise.all([look.ask(), look.ask(), look.ask()]);
  await turn();
  expect(open).toHaveLength(1);
  open[0]?.answer('seen');
  await expect(answers).resolves.toEqual(['seen', 'seen', 'seen']);
});

test('whoever asks while one is under way gets what is seen after that', async () => {
  const { look, open } = looks();
  const early = look.ask();
  await turn();
  const late = [look.ask(), look.ask()];
  await turn();
  expect(open).toHaveLength(1);
  open[0]?.answer('before');
  await turn();
  expect(open).toHaveLength(2);
  open[1]?.answer('after');
  await expect(early).resolves.toBe('before');
  await expect(Promise.all(late)).resolves.toEqual(['after', 'after']);
});

test('a failure is that of those who waited for it, and of nobody later', async () => {
  const { look, open } = looks();
  const failing = look.ask();
  await turn();
  const next = look.ask();
  open[0]?.fail(new Error('unreadable'));
  await expect(failing).rejects.toThrow('unreadable');
  await turn();
  open[1]?.answer('seen');
  await expect(next).resolves.toBe('seen');
});
