import { expect, test } from 'vitest';
import { afterFailedChange, concerns, type FailedChanges } from '../../../src/domain/change-pause.ts';
import type { ErrorCode, ErrorReport } from '../../../src/domain/errors.ts';
import type { Means } from '../../../src/domain/place-decision.ts';

const now = new Date('2026-06-01T00:00:00Z');
const MINUTE_MS = 60_000;
const DAY = 24 * 60;

const report = (code: ErrorCode): ErrorReport => ({ code, message: 'lb/one: failed', retry: 'later' });

/** Minutes until each of four attempts in a row that fail. */
function waits(code: ErrorCode, means: Means): readonly (number | undefined)[] {
  let before: FailedChanges | undefined;
  return Array.from({ length: 4 }, () => {
    before = afterFailedChange(before, { failure: report(code), means, generation: 2 }, now, 0);
    return before && (before.until.getTime() - now.getTime()) / MINUTE_MS;
  });
}

const never = [undefined, undefined, undefined, undefined];

test.each<{ code: ErrorCode; means: Means; expected: readonly (number | undefined)[] }>([
  { code: 'ERR_HAPROXY_REFUSED', means: 'swap', expected: [1, 10, 100, DAY] },
  { code: 'ERR_HOST_UNVERIFIED', means: 'add', expected: [1, 10, 100, DAY] },
  { code: 'ERR_HAPROXY_RELOAD', means: 'reload', expected: [1, 10, 100, DAY] },
  { code: 'ERR_HOST_UNREACHABLE', means: 'reload', expected: [1, 10, 100, DAY] },
  { code: 'ERR_HOST_DISK_FULL', means: 'reload', expected: never },
  { code: 'ERR_HOST_NOT_WRITABLE', means: 'reload', expected: never },
  { code: 'ERR_HOST_CHANGED', means: 'reload', expected: never },
  { code: 'ERR_HAPROXY_SOCKET', means: 'swap', expected: [0, 1, 10, 10] },
  { code: 'ERR_INTERNAL', means: 'swap', expected: [0, 1, 10, 10] },
  { code: 'ERR_HOST_UNREACHABLE', means: 'swap', expected: never },
  { code: 'ERR_HOST_DISK_FULL', means: 'swap', expected: never },
  { code: 'ERR_HOST_NOT_WRITABLE', means: 'install', expected: never },
  { code: 'ERR_HAPROXY_BUSY', means: 'swap', expected: never },
])(
  'after $code of a change by $means the next attempts are $expected minutes away',
  ({ code, means, expected }) => {
    expect(waits(code, means)).toEqual(expected);
  },
);

test('failures of another bundle do not count, unless a reload failed', () => {
  const failed = { failure: report('ERR_HOST_UNVERIFIED'), generation: 2 };
  for (const [means, minutes] of [
    ['swap', 1],
    ['reload', 10],
  ] as const) {
    const before = afterFailedChange(undefined, { ...failed, means }, now, 0);
    if (before === undefined) throw new Error('it waits');
    expect(concerns(before, 3)).toBe(means === 'reload');
    const next = afterFailedChange(before, { ...failed, means, generation: 3 }, now, 0);
    expect(next?.until).toEqual(new Date(now.getTime() + minutes * MINUTE_MS));
  }
});

test('a fleet does not return in step', () => {
  const change = { failure: report('ERR_HOST_UNVERIFIED'), means: 'swap', generation: 2 } as const;
  expect(afterFailedChange(undefined, change, now, 1)?.until).toEqual(
    new Date(now.getTime() + 1.1 * MINUTE_MS),
  );
});
