import { describe, expect, test } from 'vitest';
import {
  decideRevocation,
  findRevocationTarget,
  type SuccessorPlace,
} from '../../../src/domain/revocation.ts';
import type { FormerBundle } from '../../../src/domain/rollback.ts';

const now = new Date('2026-06-01T00:00:00Z');
const place = (host: string, state: SuccessorPlace['state'], reachable = true): SuccessorPlace => ({
  host,
  state,
  reachable,
});
const good = place('lb1', 'in sync');
const down = place('lb2', 'unreachable', false);

describe('decideRevocation', () => {
  test.each([
    { when: 'every host has the successor', places: [good, place('lb2', 'file only')], action: 'revoke' },
    { when: 'it is deployed nowhere', places: [], action: 'revoke' },
    { when: 'a host has a foreign certificate', places: [good, place('lb2', 'foreign')], action: 'revoke' },
    { when: 'a host cannot be reached', places: [good, down], action: 'wait' },
    { when: 'a change failed', places: [good, place('lb2', 'failed')], action: 'wait' },
    { when: 'a host is not looked at yet', places: [good, place('lb2', 'unknown')], action: 'wait' },
    { when: 'a host was left with what it has', places: [good, place('lb2', 'kept')], action: 'wait' },
  ])('$action when $when', ({ places, action }) => {
    expect(decideRevocation('superseded', places)).toMatchObject({ action });
  });

  test('names the host that is waited for', () => {
    expect(decideRevocation('superseded', [good, down]).reason).toContain('lb2');
  });

  test('does not wait for what cannot be reached when the key is compromised', () => {
    expect(decideRevocation('keyCompromise', [good, down])).toMatchObject({ action: 'revoke' });
    const failed = place('lb3', 'failed');
    expect(decideRevocation('keyCompromise', [good, down, failed])).toMatchObject({
      action: 'wait',
      reason: expect.stringContaining('lb3'),
    });
  });
});

describe('findRevocationTarget', () => {
  const bundle = (id: string, more: Partial<FormerBundle> = {}): FormerBundle => ({
    id,
    generation: 1,
    state: 'superseded',
    origin: 'acme',
    notAfter: new Date('2026-07-01T00:00:00Z'),
    held: { identifiers: ['site.test'], issuedAt: now },
    ...more,
  });
  const history = [
    bundle('aa11'),
    bundle('aa22', { held: undefined }),
    bundle('bb33', { origin: 'self-signed' }),
    bundle('cc44', { notAfter: now }),
    bundle('dd55', { state: 'active' }),
  ];
  const find = (fingerprint?: string, pending?: string, active: string | undefined = 'dd55') =>
    findRevocationTarget(history, active, { fingerprint, pending }, now);

  test('is the active one, or the one that is being replaced, or the one that is named', () => {
    expect(find()).toEqual({ action: 'revoke', id: 'dd55' });
    expect(find(undefined, 'aa11')).toEqual({ action: 'revoke', id: 'aa11' });
    expect(find('AA:11', 'dd55')).toEqual({ action: 'revoke', id: 'aa11' });
  });

  test.each([
    { fingerprint: 'ff', says: 'no bundle has a fingerprint that begins with ff' },
    { fingerprint: 'aa', says: 'beginning of several' },
    { fingerprint: 'aa22', says: 'not held any more' },
    { fingerprint: 'bb', says: 'self-signed' },
    { fingerprint: 'cc', says: 'expired at 2026-06-01' },
  ])('is refused for $fingerprint: $says', ({ fingerprint, says }) => {
    expect(find(fingerprint)).toMatchObject({ action: 'refuse', reason: expect.stringContaining(says) });
  });

  test('is nothing when nothing is held', () => {
    expect(findRevocationTarget([], undefined, { fingerprint: undefined, pending: undefined }, now)).toEqual({
      action: 'refuse',
      reason: 'no certificate is held',
    });
  });
});
