import { getEventListeners } from 'node:events';
import { describe, expect, test, vi } from 'vitest';
import { bounded, type Done } from '../../../src/ssh/bounded.ts';

const never = new AbortController().signal;
const limits = { timeoutMs: 60_000, onTimeout: () => new Error('too long') };

describe('an operation that may never call back', () => {
  test('gives its result', async () => {
    await expect(bounded<number>((done) => done(undefined, 7), { until: [never], ...limits })).resolves.toBe(
      7,
    );
  });

  test('gives its error, thrown or called back', async () => {
    const error = new Error('no');
    await expect(bounded((done) => done(error), { until: [never], ...limits })).rejects.toBe(error);
    const thrower = () => {
      throw error;
    };
    await expect(bounded(thrower, { until: [never], ...limits })).rejects.toBe(error);
  });

  test('ends with the reason of whichever signal aborts', async () => {
    const caller = new AbortController();
    const connection = new AbortController();
    const waiting = bounded(() => {}, { until: [caller.signal, connection.signal], ...limits });
    connection.abort(new Error('connection lost'));
    await expect(waiting).rejects.toThrow('connection lost');
  });

  test('does not begin when a signal has aborted already', async () => {
    const start = vi.fn();
    await expect(bounded(start, { until: [AbortSignal.abort('gone')], ...limits })).rejects.toBe('gone');
    expect(start).not.toHaveBeenCalled();
  });

  test('ends after its time', async () => {
    await expect(bounded(() => {}, { until: [never], ...limits, timeoutMs: 1 })).rejects.toThrow('too long');
  });

  test('lets go of a result that comes too late', async () => {
    const caller = new AbortController();
    const release = vi.fn();
    let finish: Done<string> | undefined;
    const waiting = bounded<string>(
      (done) => {
        finish = done;
      },
      { until: [caller.signal], release, ...limits },
    );
    caller.abort('enough');
    await expect(waiting).rejects.toBe('enough');
    finish?.(undefined, 'handle');
    expect(release).toHaveBeenCalledExactlyOnceWith('handle');
  });

  test('leaves no listener on a long-lived signal', async () => {
    const caller = new AbortController();
    await bounded<number>((done) => done(undefined, 1), { until: [caller.signal], ...limits });
    expect(getEventListeners(caller.signal, 'abort')).toEqual([]);
  });
});
