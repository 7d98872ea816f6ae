import { describe, expect, test } from 'vitest';
import { planCalendar } from '../../../src/domain/calendar.ts';
import { auditLimits } from '../../../src/domain/calendar-audit.ts';
import type {
  CalendarRequest,
  PlannedCertificate,
  PlannedOrder,
  WindowModel,
} from '../../../src/domain/calendar-model.ts';
import { LETS_ENCRYPT_CLASSIC, usualWindow } from '../../../src/domain/lifetimes.ts';
import { EVERY_REQUEST } from '../../../src/domain/rate-ledger.ts';
import { LETS_ENCRYPT_LIMITS } from '../../../src/domain/rate-limits.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const from = new Date('2027-01-01T00:00:00Z');
const day = (days: number) => new Date(from.getTime() + days * DAY);

/** Repeatable numbers (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const wanted = (name: string, ...identifiers: string[]): PlannedCertificate => ({
  spec: {
    name,
    identifiers,
    issuers: ['letsencrypt'],
    key: 'ecdsa-p256',
    profile: undefined,
    preferredChain: undefined,
    reuseKey: false,
  },
  held: undefined,
  renewalInfo: undefined,
  backoff: undefined,
});

/** `count` certificates of two names each, `perDomain` of them below each registered domain. */
const fleet = (count: number, perDomain: number): readonly PlannedCertificate[] =>
  Array.from({ length: count }, (_, i) => {
    const domain = `d${Math.floor(i / perDomain)}.test`;
    return wanted(`c${i}`, `a${i}.${domain}`, `b${i}.${domain}`);
  });

const usual: WindowModel = { suggest: (_, bundle) => usualWindow(bundle), changesAt: [] };

const plan = (certificates: readonly PlannedCertificate[], options: Partial<CalendarRequest> = {}) =>
  planCalendar({
    certificates,
    from,
    days: 365,
    account: 'account',
    limits: LETS_ENCRYPT_LIMITS,
    ledger: {},
    registeredDomain: (name) => name.split('.').slice(-2).join('.'),
    lifetimes: LETS_ENCRYPT_CLASSIC,
    windows: usual,
    outages: [],
    ordersInFlight: 8,
    orderMs: 5_000,
    uniform: seeded(1),
    ...options,
  });

const issuedOf = (orders: readonly PlannedOrder[], name: string) =>
  orders.filter(({ certificate, issuedAt }) => certificate === name && issuedAt !== undefined);

describe('planCalendar', () => {
  const outages = [
    { start: day(40), end: day(43) },
    { start: day(100), end: day(107) },
    { start: day(400), end: day(404) },
  ];

  test('a fleet from nothing exceeds no limit and lets nothing expire, through outages and both changes of the lifetime', () => {
    const { violations, unissued, peaks, tightest, peakInFlight, orders, days } = plan(fleet(300, 150), {
      days: 490,
      outages,
    });
    expect(violations).toEqual([]);
    expect(unissued).toEqual([]);
    expect(peakInFlight).toBe(8);
    expect(tightest?.leftMs).toBeGreaterThan(5 * DAY);
    // 150 names of a domain at 50 at once and 7.1 a day: two weeks, in which the limit is in full use.
    const perDomain = peaks.find(({ limit }) => limit === 'certificatesPerDomain');
    expect(perDomain?.used).toBeGreaterThan(49);
    expect(perDomain?.used).toBeLessThanOrEqual(50);
    expect(days.reduce((sum, { issued }) => sum + issued, 0)).toBe(
      orders.filter(({ issuedAt }) => issuedAt !== undefined).length,
    );
    const lifetimes = issuedOf(orders, 'c0').map(({ issuedAt, previousNotAfter }, i, all) => {
      const before = all[i - 1]?.issuedAt;
      return before === undefined || issuedAt === undefined ? 0 : Number(previousNotAfter) - Number(before);
    });
    expect(new Set(lifetimes)).toEqual(new Set([0, 90 * DAY, 64 * DAY, 45 * DAY]));
  });

  test('a CA without renewal information exceeds nothing either, the exact set being the only limit of a renewal', () => {
    const { violations, unissued, orders } = plan(fleet(100, 100), {
      days: 460,
      outages,
      windows: undefined,
    });
    expect(violations).toEqual([]);
    expect(unissued).toEqual([]);
    expect(new Set(orders.map(({ kind }) => kind))).toEqual(new Set(['new', 'renewal']));
  });

  test('certificates of six days live through an outage of a day', () => {
    const { violations, tightest } = plan(fleet(20, 20), {
      days: 60,
      lifetimes: [{ from: new Date(0), lifetimeMs: 160 * HOUR }],
      outages: [{ start: day(20), end: day(21) }],
    });
    expect(violations).toEqual([]);
    expect(tightest?.leftMs).toBeGreaterThan(20 * HOUR);
  });

  test('reports what expires when the CA is down for longer than a certificate lives', () => {
    const { violations } = plan([wanted('lone', 'lone.test')], {
      days: 200,
      outages: [{ start: day(50), end: day(150) }],
    });
    expect(violations).toEqual([{ kind: 'expired', subject: 'lone', at: expect.any(Date) }]);
  });

  test('a window that moves into the past renews every certificate within one check', () => {
    const revokedAt = day(30);
    const gone = { start: new Date(+revokedAt - 2 * HOUR), end: new Date(+revokedAt - HOUR) };
    const { violations, orders } = plan(fleet(200, 20), {
      days: 40,
      windows: {
        suggest: (_, bundle, now) =>
          now >= revokedAt && bundle.notBefore < revokedAt ? gone : usualWindow(bundle),
        changesAt: [revokedAt],
      },
    });
    expect(violations).toEqual([]);
    const renewed = orders.filter(({ kind }) => kind !== 'new');
    expect(renewed).toHaveLength(200);
    for (const { orderedAt, issuedAt } of renewed) {
      expect(orderedAt >= revokedAt).toBe(true);
      expect(Number(issuedAt) - Number(revokedAt)).toBeLessThan(7 * HOUR);
    }
  });

  test('resumes what is held, and leaves what is due beyond the end', () => {
    const spec = wanted('held', 'held.test').spec;
    const held = {
      identifiers: ['held.test'],
      origin: 'acme' as const,
      notBefore: day(-30),
      notAfter: day(60),
      renewAt: day(30),
    };
    const certificate = { spec, held, renewalInfo: undefined, backoff: undefined };
    expect(plan([certificate], { days: 20 }).orders).toEqual([]);
    expect(plan([certificate], { days: 40, windows: undefined }).orders).toMatchObject([
      { kind: 'renewal', reason: 'renewal due', orderedAt: day(30), previousNotAfter: day(60) },
    ]);
    const verdict = { permanent: false, fault: 'issuer' } as const;
    const waiting = { ...certificate, backoff: { failures: 2, notBefore: day(35), verdict } };
    expect(plan([waiting], { days: 40, windows: undefined }).orders[0]?.orderedAt).toEqual(day(35));
  });

  test('begins with what the ledger remembers', () => {
    const blocked = { fullAt: from, reserved: undefined, notBefore: day(2) };
    const { orders } = plan([wanted('a', 'a.test')], { days: 5, ledger: { [EVERY_REQUEST]: blocked } });
    expect(orders[0]?.orderedAt).toEqual(day(2));
  });
});

describe('auditLimits', () => {
  const certificates = fleet(60, 60);
  const request = {
    certificates,
    account: 'account',
    from,
    ledger: {},
    limits: LETS_ENCRYPT_LIMITS,
    registeredDomain: (name: string) => name.split('.').slice(-2).join('.'),
  };
  const orderAt = (
    certificate: string,
    orderedAt: Date,
    kind: PlannedOrder['kind'] = 'new',
  ): PlannedOrder => ({
    certificate,
    kind,
    reason: 'no certificate held',
    orderedAt,
    issuedAt: orderedAt,
    previousNotAfter: undefined,
  });

  test('finds the order that exceeds a limit', () => {
    const all = certificates.map(({ spec }, i) => orderAt(spec.name, day(i / 1_000)));
    const within = auditLimits(all.slice(0, 50), request);
    expect(within.violations).toEqual([]);
    expect(auditLimits(all.slice(0, 51), request).violations).toEqual([
      { kind: 'certificatesPerDomain', subject: 'certificatesPerDomain/d0.test', at: day(0.05) },
    ]);
  });

  test('holds a renewal to its exact set alone, and an ARI renewal to nothing', () => {
    const six = (kind: PlannedOrder['kind']) =>
      auditLimits(
        Array.from({ length: 6 }, (_, i) => orderAt('c0', day(i / 100), kind)),
        request,
      ).violations.map((violation) => violation.kind);
    expect(six('new')).toEqual(['certificatesPerSet']);
    expect(six('renewal')).toEqual(['certificatesPerSet']);
    expect(six('ari-renewal')).toEqual([]);
  });
});
