import { describe, expect, test } from 'vitest';
import { backoffUntil } from '../../../src/domain/backoff.ts';

const now = new Date('2026-06-01T00:00:00Z');
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

describe('a failure that may pass', () => {
  test.each([
    { failures: 1, expected: MINUTE },
    { failures: 2, expected: 10 * MINUTE },
    { failures: 3, expected: 100 * MINUTE },
    { failures: 4, expected: DAY },
    { failures: 400, expected: DAY },
  ])('waits $expected ms as number $failures in a row', ({ failures, expected }) => {
    expect(backoffUntil(failures, now, 0)).toEqual(at(expected));
    expect(backoffUntil(failures, now, 0.5)).toEqual(at(expected * 1.05));
  });

  test.each([
    { failures: 4, left: 30 * DAY, expected: DAY },
    { failures: 4, left: 4 * DAY, expected: DAY / 2 },
    { failures: 3, left: 8 * HOUR, expected: HOUR },
    { failures: 4, left: 40 * MINUTE, expected: 10 * MINUTE },
    { failures: 1, left: 40 * MINUTE, expected: MINUTE },
    { failures: 4, left: 0, expected: DAY },
    { failures: 4, left: -DAY, expected: DAY },
  ])('waits $expected ms as number $failures with $left ms left of the certificate in use', (row) => {
    expect(backoffUntil(row.failures, now, 0, { heldUntil: at(row.left) })).toEqual(at(row.expected));
  });
});

describe('a permanent failure', () => {
  test.each([
    { failures: 1, left: undefined, expected: 100 * MINUTE },
    { failures: 2, left: undefined, expected: DAY },
    { failures: 400, left: undefined, expected: DAY },
    { failures: 2, left: 4 * DAY, expected: DAY / 2 },
    { failures: 2, left: HOUR, expected: 100 * MINUTE },
  ])('waits $expected ms as number $failures with $left ms left', ({ failures, left, expected }) => {
    const heldUntil = left === undefined ? undefined : at(left);
    expect(backoffUntil(failures, now, 0, { heldUntil, permanent: true })).toEqual(at(expected));
  });
});

describe('a failure that was seen before a CA was asked', () => {
  test.each([
    { failures: 1, permanent: false, expected: MINUTE },
    { failures: 2, permanent: false, expected: 10 * MINUTE },
    { failures: 400, permanent: false, expected: 10 * MINUTE },
    { failures: 1, permanent: true, expected: 10 * MINUTE },
    { failures: 400, permanent: true, expected: 10 * MINUTE },
  ])('waits $expected ms as number $failures, permanent: $permanent', ({ failures, permanent, expected }) => {
    expect(backoffUntil(failures, now, 0, { permanent, local: true })).toEqual(at(expected));
    expect(backoffUntil(failures, now, 0, { permanent, local: true, heldUntil: at(60 * DAY) })).toEqual(
      at(expected),
    );
  });
});

test("nothing is asked before the CA's own Retry-After", () => {
  expect(backoffUntil(1, now, 0, { notBefore: at(DAY) })).toEqual(at(DAY));
  expect(backoffUntil(1, now, 0, { notBefore: at(1) })).toEqual(at(MINUTE));
  expect(backoffUntil(4, now, 0, { notBefore: at(DAY), heldUntil: at(DAY) })).toEqual(at(DAY));
  expect(backoffUntil(1, now, 0, { notBefore: at(2 * DAY), permanent: true })).toEqual(at(2 * DAY));
});
