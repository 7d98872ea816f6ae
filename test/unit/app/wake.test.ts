import { expect, test } from 'vitest';
import { Wake } from '../../../src/app/wake.ts';
import type { Clock } from '../../../src/ports/clock.ts';

/** Sleeps until the test says so. */
function manualClock() {
  const sleeps: { readonly ms: number; readonly end: () => void }[] = [];
  const clock: Clock = {
    now: () => new Date(0),
    monotonicMs: () => 0,
    sleep: (ms, { signal }) =>
      new Promise((resolve, reject) => {
        sleeps.push({ ms, end: resolve });
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      }),
  };
  return { clock, sleeps };
}

test('a sleep ends by itself after its time', async ({ signal }) => {
  const { clock, sleeps } = manualClock();
  const slept = new Wake().sleep(500, clock, { signal });
  expect(sleeps).toHaveLength(1);
  expect(sleeps[0]?.ms).toBe(500);
  sleeps[0]?.end();
  await expect(slept).resolves.toBeUndefined();
});

test('a wake ends the sleep at once', async ({ signal }) => {
  const { clock } = manualClock();
  const wake = new Wake();
  const slept = wake.sleep(500, clock, { signal });
  wake.wake();
  await expect(slept).resolves.toBeUndefined();
});

test('a wake while nobody sleeps is not lost, and counts once', async ({ signal }) => {
  const { clock, sleeps } = manualClock();
  const wake = new Wake();
  wake.wake();
  await wake.sleep(500, clock, { signal });
  expect(sleeps).toHaveLength(0);
  const second = wake.sleep(500, clock, { signal });
  expect(sleeps).toHaveLength(1);
  sleeps[0]?.end();
  await second;
});

test('an abort rejects with its own reason, even after a wake', async () => {
  const { clock } = manualClock();
  const stop = new AbortController();
  const wake = new Wake();
  const slept = wake.sleep(500, clock, { signal: stop.signal });
  const reason = new Error('stopping');
  stop.abort(reason);
  await expect(slept).rejects.toBe(reason);
  wake.wake();
  await expect(wake.sleep(500, clock, { signal: stop.signal })).rejects.toBe(reason);
});
