import { expect, test } from 'vitest';
import { type Look, poll } from '../../../src/acme/poll.ts';
import { problemError } from '../../../src/acme/problem.ts';
import { KacmeError } from '../../../src/domain/errors.ts';
import { type MovingClock, movingClock } from './moving-clock.ts';

type Answer = { settled?: string; afterMs?: number; error?: Error };

/** Answers in turn, the last one for ever. */
function scripted(answers: readonly Answer[], clock: MovingClock): () => Promise<Look<string>> {
  let asked = 0;
  return async () => {
    const { settled, afterMs, error } = answers[Math.min(asked++, answers.length - 1)] ?? {};
    if (error !== undefined) throw error;
    const notBefore = afterMs === undefined ? undefined : new Date(clock.now().getTime() + afterMs);
    return { settled, notBefore, termsOfService: undefined };
  };
}

const run = (answers: readonly Answer[], clock: MovingClock, signal = new AbortController().signal) =>
  poll(scripted(answers, clock), { what: 'order https://ca.test/order/1', clock, firstMs: 30, signal });

const reset = () =>
  new KacmeError('ERR_ACME_UNREACHABLE', 'order https://ca.test/order/1: reset', { retry: 'later' });

test('looks soon, then at intervals that double', async () => {
  const clock = movingClock();
  expect(await run([{}, {}, {}, {}, { settled: 'valid' }], clock)).toBe('valid');
  expect(clock.slept).toEqual([30, 50, 100, 200, 400]);
});

test('comes back exactly when Retry-After says', async () => {
  const clock = movingClock();
  await run([{ afterMs: 7_000 }, { afterMs: 3_000 }, {}, { settled: 'valid' }], clock);
  expect(clock.slept).toEqual([30, 7_000, 3_000, 200]);
});

test('takes a Retry-After of no time for none', async () => {
  const clock = movingClock();
  await run([{ afterMs: 0 }, { afterMs: -1_000 }, { settled: 'valid' }], clock);
  expect(clock.slept).toEqual([30, 50, 100]);
});

test('never waits longer than 5 s by itself and gives up after 3 minutes, naming what it waited for', async () => {
  const clock = movingClock();
  await expect(run([{}], clock)).rejects.toMatchObject({
    code: 'ERR_ACME_TIMEOUT',
    retry: 'later',
    message: expect.stringContaining('order https://ca.test/order/1: the CA has not finished within 180 s'),
  });
  expect(Math.max(...clock.slept)).toBe(5_000);
  expect(clock.monotonicMs()).toBeGreaterThan(170_000);
  expect(clock.monotonicMs()).toBeLessThanOrEqual(180_000);
});

test('gives up at once when the CA asks to come back after all patience', async () => {
  const clock = movingClock();
  await expect(run([{ afterMs: 3_600_000 }], clock)).rejects.toThrow(
    'asks to come back at 2026-03-01T13:00:00.030Z',
  );
  expect(clock.slept).toEqual([30]);
});

test('takes three failures in a row for a passing trouble, with pauses that double', async () => {
  const clock = movingClock();
  const trouble = [{ error: reset() }, { error: reset() }, { error: reset() }];
  expect(await run([...trouble, {}, ...trouble, { settled: 'valid' }], clock)).toBe('valid');
  expect(clock.slept.slice(0, 4)).toEqual([30, 1_000, 2_000, 4_000]);
});

test('throws the fourth failure in a row', async () => {
  const clock = movingClock();
  await expect(run([{ error: reset() }], clock)).rejects.toMatchObject({ code: 'ERR_ACME_UNREACHABLE' });
  expect(clock.slept).toEqual([30, 1_000, 2_000, 4_000]);
});

test('throws at once what will not pass by itself', async () => {
  const clock = movingClock();
  const error = new KacmeError('ERR_ACME_PROBLEM', 'gone', { retry: 'never' });
  await expect(run([{ error }], clock)).rejects.toBe(error);
  expect(clock.slept).toEqual([30]);
});

test('keeps to a rate limit met on the way if it ends in time, and throws it if it does not', async () => {
  const limited = (clock: MovingClock, ms: number) =>
    problemError(
      { type: 'rateLimited', detail: 'slow down', instance: undefined, subproblems: [] },
      {
        request: 'order',
        url: 'u',
        status: 429,
        notBefore: new Date(clock.now().getTime() + ms),
        termsOfService: undefined,
      },
      clock.now(),
    );
  const clock = movingClock();
  await run([{ error: limited(clock, 20_030) }, { settled: 'valid' }], clock);
  expect(clock.slept).toEqual([30, 20_000]);
  const later = movingClock();
  await expect(run([{ error: limited(later, 600_000) }], later)).rejects.toMatchObject({
    code: 'ERR_ACME_RATE_LIMITED',
  });
});

test('ends with the reason of the signal', async () => {
  const stop = new AbortController();
  const clock = movingClock();
  const reason = new Error('stopping');
  stop.abort(reason);
  await expect(run([{}], clock, stop.signal)).rejects.toBe(reason);
});
