import { describe, expect, test } from 'vitest';
import { Lane } from '../../../src/domain/lane.ts';

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

  test('lets tasks in by the order of asking, also after one that failed', async ({ signal }) => {
    const lane = new Lane(1);
    const seen: string[] = [];
    const tasks = [
      lane.run(
        async () => {
          seen.push('first');
          throw new Error('first fails');
        },
        { signal },
      ),
      lane.run(async () => seen.push('second'), { signal }),
      lane.run(async () => seen.push('third'), { signal }),
    ];
    const outcomes = await Promise.allSettled(tasks);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    expect(seen).toEqual(['first', 'second', 'third']);
  });

  test('lets go at once of one that is cancelled while it waits, which then never runs', async ({
    signal,
  }) => {
    const lane = new Lane(1);
    const seen: string[] = [];
    let open: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const cancelled = new AbortController();
    const running = lane.run(() => gate, { signal });
    const waiting = lane.run(async () => seen.push('cancelled'), cancelled);
    const last = lane.run(async () => seen.push('last'), { signal });
    cancelled.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(seen).toEqual([]);
    open();
    await Promise.all([running, last]);
    expect(seen).toEqual(['last']);
  });

  test('gives a place back when its task was cancelled between its turn and its start', async ({
    signal,
  }) => {
    const lane = new Lane(1);
    const cancelled = new AbortController();
    const first = lane.run(async () => {}, { signal });
    const second = lane.run(async () => 'ran', cancelled);
    await first;
    cancelled.abort(new Error('stopped'));
    await second.catch(() => undefined);
    expect(await lane.run(async () => 'free', { signal })).toBe('free');
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
