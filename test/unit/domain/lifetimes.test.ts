import { expect, test } from 'vitest';
import { LETS_ENCRYPT_CLASSIC, lifetimeAt, usualWindow } from '../../../src/domain/lifetimes.ts';

const DAY = 86_400_000;

test.each([
  ['2026-11-01T00:00:00Z', 90],
  ['2027-02-09T23:59:59Z', 90],
  ['2027-02-10T00:00:00Z', 64],
  ['2028-02-15T23:59:59Z', 64],
  ['2028-02-16T00:00:00Z', 45],
])('a certificate of %s lives %i days', (date, days) => {
  expect(lifetimeAt(LETS_ENCRYPT_CLASSIC, new Date(date))).toBe(days * DAY);
});

test('a date before the first rule is refused', () => {
  expect(() => lifetimeAt([], new Date(0))).toThrow(RangeError);
});

test.each([
  { lifetime: 90, start: 58.2, end: 61.8 },
  { lifetime: 6, start: 2.88, end: 3.12 },
])('the window of a lifetime of $lifetime days is from day $start to $end', ({ lifetime, start, end }) => {
  const window = usualWindow({ notBefore: new Date(0), notAfter: new Date(lifetime * DAY) });
  expect(window).toEqual({ start: new Date(Math.round(start * DAY)), end: new Date(Math.round(end * DAY)) });
});
