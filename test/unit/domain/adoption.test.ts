import { expect, test } from 'vitest';
import { type AdoptionCandidate, decideAdoption } from '../../../src/domain/adoption.ts';
import type { CertificateFacts } from '../../../src/domain/x509.ts';

const NOW = new Date('2026-03-01T00:00:00Z');
const NAMES = ['a.test', 'b.test'];

function candidate(
  where: string,
  changes: Partial<CertificateFacts> = {},
  objection?: string,
): AdoptionCandidate {
  const facts: CertificateFacts = {
    fingerprint256: where.padEnd(64, '0'),
    fingerprint1: where.padEnd(40, '0'),
    identifiers: NAMES,
    notBefore: new Date('2026-01-01T00:00:00Z'),
    notAfter: new Date('2026-04-01T00:00:00Z'),
    selfSigned: false,
    serialNumber: '01',
    issuer: 'CN=ca',
    ...changes,
  };
  return { where, judgement: { state: 'loadable', facts }, objection };
}

const valid = {
  origin: 'acme',
  identifiers: NAMES,
  notAfter: new Date('2026-03-10T00:00:00Z'),
  family: undefined,
  unfit: undefined,
} as const;
const good = candidate('h1');
const longer = candidate('h2', { notAfter: new Date('2026-05-01T00:00:00Z') });

test.each([
  { when: 'nothing is held', held: undefined },
  { when: 'only a self-signed one is held', held: { ...valid, origin: 'self-signed' as const } },
  { when: 'what is held is revoked', held: { ...valid, unfit: 'revoked (superseded)' } },
  { when: 'what is held has expired', held: { ...valid, notAfter: NOW } },
  { when: 'what is held covers less', held: { ...valid, identifiers: ['a.test'] } },
])('what lasts longest is adopted when $when, and the other is known as own', ({ held }) => {
  const again = candidate('h2', { notAfter: new Date('2026-05-01T00:00:00Z') });
  const decision = decideAdoption(
    { identifiers: NAMES, family: undefined, held, candidates: [good, longer, good, again] },
    NOW,
  );
  expect(decision).toMatchObject({ action: 'adopt', candidate: longer });
  expect('others' in decision && decision.others.map(({ fingerprint256 }) => fingerprint256)).toEqual([
    'h1'.padEnd(64, '0'),
  ]);
});

test.each([
  {
    when: "kacme holds a CA's certificate",
    held: valid,
    candidates: [longer],
    says: "holds a CA's certificate",
  },
  { when: 'nothing was found', held: undefined, candidates: [], says: 'nothing to adopt was found' },
  {
    when: 'it is self-signed',
    held: undefined,
    candidates: [candidate('h1', { selfSigned: true })],
    says: 'h1 is self-signed',
  },
  {
    when: 'it expires this moment',
    held: undefined,
    candidates: [candidate('h1', { notAfter: NOW })],
    says: 'h1 expired at',
  },
  {
    when: 'it is not valid yet',
    held: undefined,
    candidates: [candidate('h1', { notBefore: new Date(+NOW + 1) })],
    says: 'h1 is not valid before',
  },
  {
    when: 'a name is missing',
    held: undefined,
    candidates: [candidate('h1', { identifiers: ['a.test'] })],
    says: 'h1 does not cover b.test',
  },
  {
    when: 'kacme revoked it',
    held: undefined,
    candidates: [candidate('h1', {}, 'revoked (keyCompromise)')],
    says: 'h1 is not to be used: revoked (keyCompromise)',
  },
  {
    when: 'its file is broken',
    held: undefined,
    candidates: [{ ...good, judgement: { state: 'broken' as const, reason: 'it holds no private key' } }],
    says: 'h1 cannot be used: it holds no private key',
  },
])('nothing is adopted when $when', ({ held, candidates, says }) => {
  expect(decideAdoption({ identifiers: NAMES, family: undefined, held, candidates }, NOW)).toEqual({
    action: held === undefined ? 'decline' : 'keep',
    reason: expect.stringContaining(says),
  });
});

test('half a dual certificate adopts what has a key of its family, whatever lasts longer or is held', () => {
  const rsa = candidate('rsa', { family: 'rsa', notAfter: new Date('2026-05-01T00:00:00Z') });
  const ecdsa = candidate('ecdsa', { family: 'ecdsa' });
  const held = { ...valid, family: 'rsa' } as const;
  const half = (family: 'ecdsa' | 'rsa', candidates: readonly AdoptionCandidate[]) =>
    decideAdoption({ identifiers: NAMES, family, held, candidates }, NOW);
  expect(half('ecdsa', [rsa, ecdsa])).toMatchObject({ action: 'adopt', candidate: ecdsa, others: [] });
  expect(half('ecdsa', [rsa])).toEqual({ action: 'decline', reason: 'rsa has no ECDSA key' });
  expect(half('rsa', [rsa])).toMatchObject({ action: 'keep', reason: expect.stringContaining('holds a CA') });
});
