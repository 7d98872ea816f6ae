import { expect, test } from 'vitest';
import { type MaintenanceWindow, nextOpening } from '../../../src/domain/maintenance-window.ts';

const weekend: MaintenanceWindow = {
  days: ['sat', 'sun'],
  fromMinute: 2 * 60,
  toMinute: 4 * 60,
  timezone: 'Europe/Berlin',
};
const night: MaintenanceWindow = { ...weekend, days: ['fri'], fromMinute: 22 * 60, toMinute: 60 + 30 };

// 2026-06-06 is a Saturday; Berlin is two hours ahead of UTC then.
test.each([
  { when: 'it begins', window: weekend, now: '2026-06-06T00:00:00Z', expected: undefined },
  { when: 'its last second', window: weekend, now: '2026-06-06T01:59:59Z', expected: undefined },
  {
    when: 'it has just ended',
    window: weekend,
    now: '2026-06-06T02:00:00Z',
    expected: '2026-06-07T00:00:00Z',
  },
  {
    when: 'a second is missing',
    window: weekend,
    now: '2026-06-05T23:59:59Z',
    expected: '2026-06-06T00:00:00Z',
  },
  { when: 'the week begins', window: weekend, now: '2026-06-08T09:13:21Z', expected: '2026-06-13T00:00:00Z' },
  {
    when: 'winter time is over there',
    window: weekend,
    now: '2026-12-01T09:00:00Z',
    expected: '2026-12-05T01:00:00Z',
  },
  { when: 'its evening', window: night, now: '2026-06-05T20:00:00Z', expected: undefined },
  { when: 'past midnight', window: night, now: '2026-06-05T23:29:00Z', expected: undefined },
  {
    when: 'past its end on the next day',
    window: night,
    now: '2026-06-05T23:30:00Z',
    expected: '2026-06-12T20:00:00Z',
  },
  {
    when: 'the early hours of its first day',
    window: night,
    now: '2026-06-04T23:00:00Z',
    expected: '2026-06-05T20:00:00Z',
  },
  {
    when: 'summer time swallows it',
    window: { ...weekend, days: ['sun'] as const, toMinute: 3 * 60 },
    now: '2026-03-28T12:00:00Z',
    expected: '2026-04-05T00:00:00Z',
  },
  {
    when: 'it opens at an odd minute',
    window: { ...weekend, fromMinute: 127, timezone: 'Asia/Kathmandu' },
    now: '2026-06-05T12:00:00Z',
    expected: '2026-06-05T20:22:00Z',
  },
])('at a moment when $when', ({ window, now, expected }) => {
  expect(nextOpening(window, new Date(now))?.toISOString()).toBe(
    expected === undefined ? undefined : new Date(expected).toISOString(),
  );
});
