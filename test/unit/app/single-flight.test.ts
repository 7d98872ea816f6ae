import { describe, expect, test } from 'vitest';
import { SingleFlight } from '../../../src/app/single-flight.ts';

/** Work that ends when the test says so, and counts how often it was begun. */
function controlledWork() {
  const begun: {
    readonly signal: AbortSignal;
    readonly end: (value: string) => void;
    readonly fail: (error: Error) => void;
  }[] = [];
  const work = ({ signal }: { signal: AbortSignal }) =>
    new Promise<string>((end, fail) => {
      begun.push({ signal, end, fail });
    });
  return { begun, work };
}

const never = new AbortController().signal;

describe('SingleFlight', () => {
  test('callers of one key share one run and its result', async () => {
    const flights = new SingleFlight<string>();
    const { begun, work } = controlledWork();
    const both = [flights.run('a', work, { signal: never }), flights.run('a', work, { signal: never })];
    begun[0]?.end('done');
    expect(await Promise.all(both)).toEqual(['done', 'done']);
    expect(begun).toHaveLength(1);
  });

  test('callers of different keys do not', async () => {
    const flights = new SingleFlight<string>();
    const { begun, work } = controlledWork();
    const both = [flights.run('a', work, { signal: never }), flights.run('b', work, { signal: never })];
    begun[0]?.end('one');
    begun[1]?.end('two');
    expect(await Promise.all(both)).toEqual(['one', 'two']);
  });

  test('one caller that is cancelled leaves at once and does not disturb the other, even if it began the run', async () => {
    const flights = new SingleFlight<string>();
    const { begun, work } = controlledWork();
    const stop = new AbortController();
    const leaving = flights.run('a', work, { signal: stop.signal });
    const staying = flights.run('a', work, { signal: never });
    const reason = new Error('the operator went away');
    stop.abort(reason);
    await expect(leaving).rejects.toBe(reason);
    expect(begun[0]?.signal.aborted).toBe(false);
    begun[0]?.end('done');
    expect(await staying).toBe('done');
  });

  test('the run is cancelled when the last caller is, who waits until it has ended', async () => {
    const flights = new SingleFlight<string>();
    const { begun, work } = controlledWork();
    const stop = new AbortController();
    let left = false;
    const leaving = flights.run('a', work, { signal: stop.signal }).finally(() => {
      left = true;
    });
    const reason = new Error('stopping');
    stop.abort(reason);
    await expect.poll(() => begun[0]?.signal.aborted).toBe(true);
    expect(left).toBe(false);
    begun[0]?.fail(new Error('undone'));
    await expect(leaving).rejects.toBe(reason);
  });

  test('whoever comes while a cancelled run ends gets a run of its own after it', async () => {
    const flights = new SingleFlight<string>();
    const { begun, work } = controlledWork();
    const stop = new AbortController();
    const leaving = flights.run('a', work, { signal: stop.signal });
    stop.abort(new Error('stopping'));
    await expect.poll(() => begun[0]?.signal.aborted).toBe(true);
    const fresh = flights.run('a', work, { signal: never });
    expect(begun).toHaveLength(1);
    begun[0]?.fail(new Error('undone'));
    await expect(leaving).rejects.toThrow('stopping');
    await expect.poll(() => begun.length).toBe(2);
    begun[1]?.end('done');
    expect(await fresh).toBe('done');
  });
});
