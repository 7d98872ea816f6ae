import { expect, test } from 'vitest';
import { decideRollback, type FormerBundle, holdUntil } from '../../../src/domain/rollback.ts';

const NOW = new Date('2026-03-01T00:00:00Z');
const NAMES = ['a.test', 'b.test'];

function bundle(letter: string, changes: Partial<FormerBundle> = {}): FormerBundle {
  return {
    id: letter.repeat(64),
    generation: 1,
    state: 'superseded',
    origin: 'acme',
    notAfter: new Date('2026-05-01T00:00:00Z'),
    held: { identifiers: NAMES, issuedAt: new Date('2026-01-01T00:00:00Z') },
    ...changes,
  };
}

const issued = (day: string): FormerBundle['held'] => ({ identifiers: NAMES, issuedAt: new Date(day) });
const active = bundle('a', { generation: 3, state: 'active', held: issued('2026-02-20T00:00:00Z') });
const previous = bundle('b', { generation: 2, held: issued('2026-02-01T00:00:00Z') });
const older = bundle('c', { generation: 1, held: issued('2026-01-01T00:00:00Z') });

test.each([
  { when: 'there are two', history: [older, previous, active], to: undefined, expected: previous.id },
  {
    when: 'the operator has gone back already',
    history: [
      older,
      { ...active, state: 'superseded' as const },
      { ...previous, state: 'active' as const, generation: 4 },
    ],
    to: undefined,
    expected: older.id,
  },
  { when: 'the operator names one', history: [older, previous, active], to: 'CCCC', expected: older.id },
  {
    when: 'the operator names a newer one',
    history: [
      { ...active, state: 'superseded' as const },
      { ...previous, state: 'active' as const },
    ],
    to: 'aaaa',
    expected: active.id,
  },
  {
    when: 'the one before is revoked',
    history: [older, { ...previous, state: 'revoked' as const }, active],
    to: undefined,
    expected: older.id,
  },
])('goes to the right bundle when $when', ({ history, to, expected }) => {
  expect(decideRollback({ history, identifiers: NAMES, to }, NOW)).toMatchObject({
    action: 'roll back',
    to: expected,
  });
});

test.each([
  { when: 'nothing was before', history: [active], to: undefined, says: 'there is no former bundle' },
  {
    when: 'it is revoked',
    history: [{ ...previous, state: 'revoked' as const }, active],
    to: 'b',
    says: 'is revoked',
  },
  {
    when: 'it has expired',
    history: [{ ...previous, notAfter: NOW }, active],
    to: undefined,
    says: 'expired at',
  },
  {
    when: 'it is self-signed',
    history: [{ ...previous, origin: 'self-signed' as const }, active],
    to: undefined,
    says: 'is self-signed',
  },
  {
    when: 'its key is gone',
    history: [{ ...previous, held: undefined }, active],
    to: 'b',
    says: 'keepBundles',
  },
  {
    when: 'it covers less',
    history: [{ ...previous, held: { identifiers: ['a.test'], issuedAt: NOW } }, active],
    to: 'b',
    says: 'does not cover b.test',
  },
  {
    when: 'only a newer one is there',
    history: [
      { ...active, state: 'superseded' as const },
      { ...previous, state: 'active' as const },
    ],
    to: undefined,
    says: 'is newer',
  },
  {
    when: 'the active one is named',
    history: [previous, active],
    to: 'aa',
    says: 'is the active bundle already',
  },
  { when: 'no fingerprint begins so', history: [previous, active], to: 'dd', says: 'there are bbbb' },
  {
    when: 'several fingerprints begin so',
    history: [previous, { ...older, id: `${'b'.repeat(63)}c` }, active],
    to: 'bb',
    says: 'several fingerprints',
  },
])('refuses with the reason when $when', ({ history, to, says }) => {
  expect(decideRollback({ history, identifiers: NAMES, to }, NOW)).toMatchObject({
    action: 'refuse',
    reason: expect.stringContaining(says),
  });
});

test('a bundle that was gone back to is held until a third of what it has left', () => {
  expect(holdUntil(new Date('2026-03-31T00:00:00Z'), NOW)).toEqual(new Date('2026-03-21T00:00:00Z'));
});
