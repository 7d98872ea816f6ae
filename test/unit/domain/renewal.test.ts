import { describe, expect, test } from 'vitest';
import type { CertificateSpec } from '../../../src/domain/model.ts';
import { decideRenewal, drawRenewAt, type HeldBundle } from '../../../src/domain/renewal.ts';

const now = new Date('2026-06-01T00:00:00Z');
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);
const MINUTE = 60_000;
const DAY = 86_400_000;
const verdict = { permanent: false, fault: 'issuer' } as const;

const spec: CertificateSpec = {
  name: 'external',
  identifiers: ['a.example.org', 'b.example.org'],
  issuers: ['letsencrypt'],
  key: 'ecdsa-p256',
  profile: undefined,
  preferredChain: undefined,
  reuseKey: false,
};
const held: HeldBundle = {
  identifiers: ['a.example.org', 'b.example.org'],
  origin: 'acme',
  notAfter: at(60 * DAY),
  renewAt: at(30 * DAY),
};

describe('decideRenewal', () => {
  test.each([
    {
      when: 'nothing is held',
      held: undefined,
      expected: { action: 'issue', reason: 'no certificate held' },
    },
    {
      when: 'only the bootstrap certificate is held',
      held: { ...held, origin: 'self-signed' as const },
      expected: { action: 'issue', reason: 'only a self-signed certificate held' },
    },
    {
      when: 'a name was added',
      held: { ...held, identifiers: ['a.example.org'] },
      expected: { action: 'issue', reason: 'does not cover b.example.org' },
    },
    {
      when: 'a name was removed',
      held: { ...held, identifiers: [...held.identifiers, 'gone.example.org'] },
      expected: { action: 'wait', reason: 'not due', until: held.renewAt },
    },
    {
      when: 'it is revoked, though an operator went back to it',
      held: { ...held, unfit: 'revoked (superseded)', heldUntil: at(DAY) },
      expected: { action: 'issue', reason: 'revoked (superseded)' },
    },
    {
      when: 'renewAt is one millisecond away',
      held: { ...held, renewAt: at(1) },
      expected: { action: 'wait', reason: 'not due', until: at(1) },
    },
    {
      when: 'renewAt is now',
      held: { ...held, renewAt: now },
      expected: { action: 'issue', reason: 'renewal due' },
    },
    {
      when: 'it expired while kacme was away',
      held: { ...held, notAfter: now, renewAt: at(DAY) },
      expected: { action: 'issue', reason: 'expired' },
    },
    {
      when: 'an adopted one is not due',
      held: { ...held, origin: 'adopted' as const },
      expected: { action: 'wait', reason: 'not due', until: held.renewAt },
    },
  ])('$expected.action when $when', ({ held, expected }) => {
    expect(decideRenewal(spec, held, undefined, now)).toEqual(expected);
  });

  test.each([
    { when: 'half a dual one holds the key of the other half', dualOf: 'external', family: 'rsa', due: true },
    { when: 'half a dual one holds its own', dualOf: 'external', family: 'ecdsa', due: false },
    { when: 'a single one holds a key of before', dualOf: undefined, family: 'rsa', due: false },
  ] as const)('issues at once: $due, when $when', ({ dualOf, family, due }) => {
    const half = dualOf === undefined ? spec : { ...spec, dualOf };
    expect(decideRenewal(half, { ...held, family }, undefined, now)).toEqual(
      due
        ? { action: 'issue', reason: 'holds an RSA key as the ECDSA half of a dual certificate' }
        : { action: 'wait', reason: 'not due', until: held.renewAt },
    );
  });

  test('finishes an order that was begun, even if nothing is due', () => {
    expect(decideRenewal(spec, held, undefined, now, true)).toEqual({
      action: 'issue',
      reason: 'an order is under way',
    });
    const backoff = { failures: 1, notBefore: at(MINUTE), verdict };
    expect(decideRenewal(spec, held, backoff, now, true)).toMatchObject({
      action: 'wait',
      until: at(MINUTE),
    });
  });

  test('waits out the back-off of a failed attempt and says why', () => {
    const backoff = { failures: 2, notBefore: at(MINUTE), verdict };
    expect(decideRenewal(spec, undefined, backoff, now)).toEqual({
      action: 'wait',
      reason: 'no certificate held; backing off after 2 failed attempts',
      until: at(MINUTE),
    });
    expect(decideRenewal(spec, undefined, backoff, at(MINUTE))).toEqual({
      action: 'issue',
      reason: 'no certificate held',
    });
  });

  test('says what an operator must do where waiting does not help', () => {
    const permanent = { permanent: true, fault: 'issuer' } as const;
    const backoff = { failures: 1, notBefore: at(DAY), verdict: permanent, remedy: 'correct the names' };
    expect(decideRenewal(spec, undefined, backoff, now)).toEqual({
      action: 'wait',
      reason:
        'no certificate held; an operator must act after a failed attempt: correct the names; then run kacme renew external --force',
      until: at(DAY),
    });
  });

  test('a back-off does not bring a renewal forward', () => {
    const backoff = { failures: 1, notBefore: at(MINUTE), verdict };
    expect(decideRenewal(spec, held, backoff, now)).toEqual({
      action: 'wait',
      reason: 'not due',
      until: held.renewAt,
    });
  });
});

describe('the reason of decideRenewal', () => {
  const basis = "the CA's window";
  test.each([
    { when: 'it waits', renewAt: at(1), reason: "not due (the CA's window)" },
    { when: 'it is due', renewAt: now, reason: "renewal due (the CA's window)" },
  ])('says whose word the moment is when $when', ({ renewAt, reason }) => {
    expect(decideRenewal(spec, { ...held, renewAt, basis }, undefined, now)).toMatchObject({ reason });
  });
});

describe('drawRenewAt', () => {
  test.each([
    { lifetime: 90 * DAY, uniform: 0, expected: 60 * DAY },
    { lifetime: 90 * DAY, uniform: 0.5, expected: 60.9 * DAY },
    { lifetime: 160 * 60 * MINUTE, uniform: 0, expected: 80 * 60 * MINUTE },
    { lifetime: 10 * DAY, uniform: 0, expected: (20 / 3) * DAY },
  ])('a lifetime of $lifetime ms is renewed $expected ms into it at a draw of $uniform', (row) => {
    expect(drawRenewAt(now, at(row.lifetime), now, row.uniform)).toEqual(at(Math.round(row.expected)));
  });
});

test('a new certificate is not due at once, however old the CA says it is', () => {
  const longAgo = at(-80 * DAY);
  expect(drawRenewAt(longAgo, at(10 * DAY), now, 0)).toEqual(at(DAY));
});
