import { describe, expect, test } from 'vitest';
import { SharedLock } from '../../../src/domain/shared-lock.ts';

/** Tasks of one lock: which have begun, and how each is ended. */
function tasks() {
  const lock = new SharedLock();
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const start = (how: 'shared' | 'exclusive', name: string, signal = new AbortController().signal) =>
    lock[how](
      () =>
        new Promise<void>((resolve) => {
          begun.push(name);
          ends.set(name, resolve);
        }),
      { signal },
    );
  return { start, begun, end: (name: string) => ends.get(name)?.() };
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('a shared lock', () => {
  test('lets those that share run side by side', async () => {
    const { start, begun, end } = tasks();
    const both = [start('shared', 'a'), start('shared', 'b')];
    await settle();
    expect(begun).toEqual(['a', 'b']);
    end('a');
    end('b');
    await Promise.all(both);
  });

  test('lets nobody run beside one that is alone', async () => {
    const { start, begun, end } = tasks();
    const all = [
      start('shared', 'a'),
      start('exclusive', 'alone'),
      start('shared', 'b'),
      start('exclusive', 'c'),
    ];
    for (const [name, expected] of [
      ['a', ['a', 'alone']],
      ['alone', ['a', 'alone', 'b']],
      ['b', ['a', 'alone', 'b', 'c']],
    ] as const) {
      await settle();
      expect(begun).toEqual(expected.slice(0, -1));
      end(name);
      await settle();
      expect(begun).toEqual(expected);
    }
    end('c');
    await Promise.all(all);
  });

  test('lets those behind it in when the one that waits to be alone gives up', async () => {
    const { start, begun, end } = tasks();
    const giveUp = new AbortController();
    const first = start('shared', 'a');
    const alone = start('exclusive', 'alone', giveUp.signal);
    const behind = start('shared', 'b');
    await settle();
    expect(begun).toEqual(['a']);
    giveUp.abort(new Error('no longer wanted'));
    await expect(alone).rejects.toThrow('no longer wanted');
    await settle();
    expect(begun).toEqual(['a', 'b']);
    end('a');
    end('b');
    await Promise.all([first, behind]);
  });

  test('is free again after a task that failed', async () => {
    const lock = new SharedLock();
    const { signal } = new AbortController();
    const failing = lock.exclusive(() => Promise.reject(new Error('failed')), { signal });
    await expect(failing).rejects.toThrow('failed');
    await expect(lock.exclusive(async () => 'done', { signal })).resolves.toBe('done');
  });
});
