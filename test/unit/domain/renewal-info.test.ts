import { describe, expect, test } from 'vitest';
import {
  decideCheck,
  describeRenewalTime,
  followWindow,
  insideWindow,
  isPremature,
  judgeWindow,
  lackWindow,
  missWindow,
  type RenewalInfoState,
  renewalTime,
} from '../../../src/domain/renewal-info.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const now = new Date('2026-06-01T00:00:00Z');
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);
const window = (startDays: number, endDays: number) => ({
  start: at(startDays * DAY),
  end: at(endDays * DAY),
});
const answer = (startDays: number, endDays: number, retryAfter?: Date) => ({
  info: { suggestedWindow: window(startDays, endDays), explanationURL: undefined },
  retryAfter,
});
/** A window of ten days, of which the seventh day was drawn. */
const held: RenewalInfoState = followWindow(undefined, answer(10, 20), now, 0.7);

describe('judgeWindow', () => {
  test.each([
    { when: 'it ends after its start', value: window(1, 2), valid: true },
    { when: 'it lies in the past', value: window(-2, -1), valid: true },
    { when: 'it ends at its start', value: window(1, 1), valid: false },
    { when: 'it ends before its start', value: window(2, 1), valid: false },
    { when: 'its start is no date', value: { start: new Date('?'), end: now }, valid: false },
    { when: 'its end is no date', value: { start: now, end: new Date('?') }, valid: false },
  ])('is $valid when $when', ({ value, valid }) => {
    expect(judgeWindow(value).valid).toBe(valid);
  });

  test('followWindow refuses what it refuses', () => {
    expect(() => followWindow(held, answer(2, 1), now, 0)).toThrow(RangeError);
  });
});

describe('followWindow', () => {
  test.each([
    { when: 'nothing was known', state: undefined, window: [10, 20], expected: 15 },
    { when: 'the window is the same', state: held, window: [10, 20], expected: 17 },
    { when: 'the window grew to both sides', state: held, window: [9, 21], expected: 15 },
    { when: 'the window moved later and holds the draw', state: held, window: [12, 25], expected: 17 },
    { when: 'the window moved later, past the draw', state: held, window: [18, 28], expected: 23 },
    { when: 'the window moved earlier and away', state: held, window: [1, 3], expected: 2 },
    { when: 'the window moved earlier and holds the draw', state: held, window: [4, 18], expected: 11 },
    {
      when: 'the window moved earlier, and the new draw is later',
      state: held,
      window: [9.9, 30],
      expected: 17,
    },
    { when: 'the window moved into the past', state: held, window: [-2, -1], expected: -1.5 },
  ])('renews on day $expected when $when', ({ state, window: [start = 0, end = 0], expected }) => {
    const { suggestion } = followWindow(state, answer(start, end), now, 0.5);
    expect(suggestion).toEqual({
      window: window(start, end),
      renewAt: at(expected * DAY),
      checkedAt: now,
      explanationURL: undefined,
    });
  });

  test('the draw stays the same through any number of checks', () => {
    let state = held;
    for (let i = 0; i < 100; i += 1) state = followWindow(state, answer(10, 20), at(i * 6 * HOUR), i / 100);
    expect(state.suggestion?.renewAt).toEqual(at(17 * DAY));
  });

  test.each([
    { retryAfter: undefined, expected: 6 * HOUR },
    { retryAfter: at(2 * HOUR), expected: 2 * HOUR },
    { retryAfter: at(-HOUR), expected: MINUTE },
    { retryAfter: at(1_000), expected: MINUTE },
    { retryAfter: at(30 * DAY), expected: DAY },
  ])('asks again $expected ms later at a Retry-After of $retryAfter', ({ retryAfter, expected }) => {
    expect(followWindow(held, answer(10, 20, retryAfter), now, 0).nextCheckAt).toEqual(at(expected));
  });

  test('keeps the explanation and forgets failures', () => {
    const info = { ...answer(10, 20).info, explanationURL: 'https://ca.test/incident' };
    const state = followWindow(missWindow(held, now, 0), { info, retryAfter: undefined }, now, 0);
    expect(state.suggestion?.explanationURL).toBe('https://ca.test/incident');
    expect(state.failures).toBe(0);
  });
});

describe('missWindow', () => {
  test('keeps the last answer and asks again ever later, up to six hours', () => {
    const delays: number[] = [];
    let state: RenewalInfoState = held;
    for (let i = 0; i < 7; i += 1) {
      state = missWindow(state, now, 0);
      delays.push(state.nextCheckAt.getTime() - now.getTime());
    }
    expect(delays).toEqual([1, 4, 16, 64, 256, 360, 360].map((minutes) => minutes * MINUTE));
    expect(state.suggestion).toEqual(held.suggestion);
    expect(state.failures).toBe(7);
  });

  test.each([
    { when: 'the CA gives no time', uniform: 0.5, retryAfter: undefined, expected: 0.95 * MINUTE },
    { when: 'the CA wants more time', uniform: 0, retryAfter: at(HOUR), expected: HOUR },
    { when: 'the CA wants a month', uniform: 0, retryAfter: at(30 * DAY), expected: DAY },
    { when: 'the CA wants less time', uniform: 0, retryAfter: at(1), expected: MINUTE },
  ])('asks $expected ms later when $when', ({ uniform, retryAfter, expected }) => {
    expect(missWindow(undefined, now, uniform, retryAfter)).toEqual({
      suggestion: undefined,
      nextCheckAt: at(expected),
      failures: 1,
    });
  });
});

describe('decideCheck', () => {
  test.each([
    { when: 'nothing was asked yet', state: undefined, notAfter: at(DAY), expected: { action: 'ask' } },
    {
      when: 'the next check is ahead',
      state: held,
      notAfter: at(DAY),
      expected: { action: 'wait', until: at(6 * HOUR) },
    },
    {
      when: 'the next check is now',
      state: { ...held, nextCheckAt: now },
      notAfter: at(DAY),
      expected: { action: 'ask' },
    },
    {
      when: 'the certificate expires now',
      state: undefined,
      notAfter: now,
      expected: { action: 'never', reason: 'expired' },
    },
  ])('$expected.action when $when', ({ state, notAfter, expected }) => {
    expect(decideCheck(state, { notAfter }, now)).toEqual(expected);
  });
});

describe('renewalTime', () => {
  const bundle = { notBefore: at(-40 * DAY), notAfter: at(60 * DAY), renewAt: at(30 * DAY) };

  test.each([
    { when: 'there is no answer', state: undefined, day: 30, basis: 'share of the lifetime' },
    {
      when: 'the CA never answered',
      state: missWindow(undefined, now, 0),
      day: 30,
      basis: 'share of the lifetime',
    },
    { when: 'the CA suggests one', state: held, day: 17, basis: 'suggested by the CA' },
    {
      when: 'only the last answer is there',
      state: missWindow(held, now, 0),
      day: 17,
      basis: 'suggested by the CA',
    },
    {
      when: 'the CA suggests one too late',
      state: followWindow(undefined, answer(58, 90), now, 0),
      day: 55,
      basis: 'emergency floor',
    },
  ])('is day $day ($basis) when $when', ({ state, day, basis }) => {
    expect(renewalTime(state, bundle)).toEqual({ renewAt: at(day * DAY), basis });
  });

  test('the floor does not make due at once what was new with little time left', () => {
    const late = { ...bundle, renewAt: at(58 * DAY) };
    expect(renewalTime(undefined, late)).toEqual({ renewAt: late.renewAt, basis: 'share of the lifetime' });
    const tooLate = followWindow(undefined, answer(59, 90), now, 0);
    expect(renewalTime(tooLate, late)).toEqual({ renewAt: late.renewAt, basis: 'emergency floor' });
  });

  test('a past window means now', () => {
    const { renewAt } = renewalTime(followWindow(held, answer(-2, -1), now, 0.99), bundle);
    expect(renewAt < now).toBe(true);
  });
});

test.each([
  { day: 9.9, expected: false },
  { day: 10, expected: true },
  { day: 20, expected: true },
  { day: 20.1, expected: false },
])('whether day $day is inside the window of day 10 to 20: $expected', ({ day, expected }) => {
  expect(insideWindow(held, at(day * DAY))).toBe(expected);
  expect(insideWindow(undefined, at(day * DAY))).toBe(false);
});

test('a CA that stopped answering about renewal is asked again a day later, and its last word stands', () => {
  expect(lackWindow(undefined, now)).toEqual({ suggestion: undefined, nextCheckAt: at(DAY), failures: 0 });
  expect(lackWindow(missWindow(held, now, 0), now)).toEqual({ ...held, nextCheckAt: at(DAY) });
});

describe('isPremature', () => {
  test.each([
    { when: 'it is new and called due by the first word', age: MINUTE, state: undefined, from: -2, is: true },
    {
      when: 'nothing valid was heard before',
      age: MINUTE,
      state: missWindow(undefined, now, 0),
      from: -2,
      is: true,
    },
    { when: 'the window lies ahead', age: MINUTE, state: undefined, from: 1, is: false },
    { when: 'another window was heard before', age: MINUTE, state: held, from: -2, is: false },
    { when: 'it is an hour old', age: HOUR, state: undefined, from: -2, is: false },
  ])('is $is for a bundle when $when', ({ age, state, from, is }) => {
    const { info } = answer(from, from + 1);
    expect(isPremature(state, info, { issuedAt: at(-age) }, now)).toBe(is);
  });
});

describe('describeRenewalTime', () => {
  const explained = followWindow(
    undefined,
    {
      info: { suggestedWindow: window(10, 20), explanationURL: 'https://ca.test/why' },
      retryAfter: undefined,
    },
    now,
    0.5,
  );
  test.each([
    {
      basis: 'suggested by the CA',
      state: held,
      expected: "the CA's window, 2026-06-11T00:00:00.000Z to 2026-06-21T00:00:00.000Z",
    },
    {
      basis: 'suggested by the CA',
      state: explained,
      expected:
        "the CA's window, 2026-06-11T00:00:00.000Z to 2026-06-21T00:00:00.000Z; see https://ca.test/why",
    },
    { basis: 'emergency floor', state: held, expected: 'a twentieth of the lifetime is left' },
    { basis: 'share of the lifetime', state: undefined, expected: undefined },
  ] as const)('of $basis is $expected', ({ basis, state, expected }) => {
    expect(describeRenewalTime({ renewAt: now, basis }, state)).toBe(expected);
  });
});
