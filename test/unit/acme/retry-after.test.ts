import { expect, test } from 'vitest';
import { parseRetryAfter } from '../../../src/acme/retry-after.ts';

const now = new Date('2026-03-01T12:00:00Z');

test.each([
  { header: '3', expected: '2026-03-01T12:00:03.000Z' },
  { header: ' 120 ', expected: '2026-03-01T12:02:00.000Z' },
  { header: '0', expected: '2026-03-01T12:00:00.000Z' },
  { header: 'Sun, 01 Mar 2026 13:30:00 GMT', expected: '2026-03-01T13:30:00.000Z' },
  { header: 'Sunday, 01-Mar-26 13:30:00 GMT', expected: '2026-03-01T13:30:00.000Z' },
])('Retry-After "$header" is the moment $expected', ({ header, expected }) => {
  expect(parseRetryAfter(header, now)?.toISOString()).toBe(expected);
});

test('a Retry-After in the past is now', () => {
  expect(parseRetryAfter('Sun, 01 Mar 2026 11:00:00 GMT', now)).toEqual(now);
});

test.each(['999999999', '99999999999999999999', 'Fri, 01 Mar 2058 12:00:00 GMT'])(
  'a Retry-After of "%s" is no more than 7 days',
  (header) => {
    expect(parseRetryAfter(header, now)?.toISOString()).toBe('2026-03-08T12:00:00.000Z');
  },
);

test.each([undefined, '', 'soon', '-5', '1.5', '1e9', 'Foo, never'])(
  'a Retry-After of %j says nothing',
  (header) => {
    expect(parseRetryAfter(header, now)).toBeUndefined();
  },
);
