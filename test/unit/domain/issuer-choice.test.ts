import { expect, test } from 'vitest';
import type { BackoffState } from '../../../src/domain/backoff.ts';
import type { Fault } from '../../../src/domain/failure.ts';
import { chooseIssuer } from '../../../src/domain/issuer-choice.ts';

const now = new Date('2026-06-01T00:00:00Z');
const MINUTE = 60_000;
const DAY = 86_400_000;

const waiting = (failures: number, ms: number, fault: Fault = 'issuer', permanent = false): BackoffState => ({
  failures,
  notBefore: new Date(now.getTime() + ms),
  verdict: { permanent, fault },
});

test.each([
  { when: 'nothing failed', backoffs: {}, expected: 'first' },
  {
    when: 'the first failed once and is waited for',
    backoffs: { first: waiting(1, MINUTE) },
    expected: 'first',
  },
  { when: 'the first keeps failing', backoffs: { first: waiting(3, MINUTE) }, expected: 'second' },
  {
    when: 'the first keeps failing, nobody can tell why',
    backoffs: { first: waiting(3, MINUTE, 'unknown') },
    expected: 'second',
  },
  {
    when: 'the first asks to be left alone for days',
    backoffs: { first: waiting(1, 2 * DAY) },
    expected: 'second',
  },
  {
    when: 'the first refused for good',
    backoffs: { first: waiting(1, MINUTE, 'issuer', true) },
    expected: 'second',
  },
  {
    when: 'every CA would fail like the first',
    backoffs: { first: waiting(9, DAY, 'here') },
    expected: 'first',
  },
  {
    when: 'every CA would refuse for good like the first',
    backoffs: { first: waiting(2, DAY, 'here', true) },
    expected: 'first',
  },
  { when: 'the back-off of the first is over', backoffs: { first: waiting(9, 0) }, expected: 'first' },
  {
    when: 'the permanent back-off of the first is over',
    backoffs: { first: waiting(9, 0, 'issuer', true) },
    expected: 'first',
  },
  {
    when: 'both keep failing, and the second is free sooner',
    backoffs: { first: waiting(4, DAY), second: waiting(3, MINUTE) },
    expected: 'second',
  },
])('the $expected is asked when $when', ({ backoffs, expected }) => {
  const known = new Map<string, BackoffState>(Object.entries(backoffs));
  expect(chooseIssuer(['first', 'second'], known, now)).toEqual({
    issuer: expected,
    backoff: known.get(expected),
  });
});
