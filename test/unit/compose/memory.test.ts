import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { collectGarbage } from '../../../src/compose/memory.ts';

test('what nothing refers to any more is collected, although Node was started without a flag for it', async () => {
  const forgotten = new WeakRef({ large: 'x'.repeat(1_000) });
  // A WeakRef holds its target until the present turn of the event loop has ended.
  await nextTurn();
  collectGarbage();
  expect(forgotten.deref()).toBeUndefined();
  expect('gc' in globalThis).toBe(false);
});
