import { describe, expect, test } from 'vitest';
import { Lane } from '../../../src/app/lane.ts';

describe('Lane', () => {
  test('lets no more run at a time than it was told', async ({ signal }) => {
    const lane = new Lane(2);
    let open: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let running = 0;
    let most = 0;
    const task = async () => {
      most = Math.max(most, ++running);
      await gate;
      running--;
    };
    const all = Promise.all([1, 2, 3, 4].map(() => lane.run(task, { signal })));
    open();
    await all;
    expect(most).toBe(2);
  });

  test('waits for a running task that was cancelled, so that it can undo what it began', async () => {
    const lane = new Lane(1);
    const cancelled = new AbortController();
    const done: string[] = [];
    const task = async () => {
      cancelled.abort(new Error('stopped'));
      await Promise.resolve();
      done.push('undone');
      cancelled.signal.throwIfAborted();
    };
    await expect(lane.run(task, cancelled)).rejects.toThrow('stopped');
    expect(done).toEqual(['undone']);
  });

  test('does not begin a task that was cancelled before its turn', async () => {
    const lane = new Lane(1);
    const cancelled = new AbortController();
    cancelled.abort(new Error('stopped'));
    let ran = false;
    const task = async () => {
      ran = true;
    };
    await expect(lane.run(task, cancelled)).rejects.toThrow('stopped');
    expect(ran).toBe(false);
  });
});
