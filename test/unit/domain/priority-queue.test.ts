import { expect, test } from 'vitest';
import { PriorityQueue } from '../../../src/domain/priority-queue.ts';

test('gives back in order what was put in without', () => {
  const queue = new PriorityQueue<number>((a, b) => a < b);
  const numbers = Array.from({ length: 500 }, (_, i) => (i * 7_919) % 503);
  for (const number of numbers) queue.push(number);
  expect(queue.size).toBe(500);
  const popped = numbers.map(() => queue.pop());
  expect(popped).toEqual([...numbers].sort((a, b) => a - b));
  expect(queue.pop()).toBeUndefined();
});

test('keeps the order while things come and go', () => {
  const queue = new PriorityQueue<number>((a, b) => a < b);
  for (const number of [5, 3, 8]) queue.push(number);
  expect(queue.pop()).toBe(3);
  for (const number of [1, 6, 5]) queue.push(number);
  expect([1, 2, 3, 4, 5].map(() => queue.pop())).toEqual([1, 5, 5, 6, 8]);
});
