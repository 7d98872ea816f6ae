import { describe, expect, test } from 'vitest';
import { calendarOf, type IssuerOutlook } from '../../../src/app/calendar.ts';
import type { PlannedCertificate } from '../../../src/domain/calendar-model.ts';
import { DAY_MS, issuer, START } from './app-fixture.ts';

const day = (days: number) => new Date(START.getTime() + days * DAY_MS);

const certificate = (name: string, held?: PlannedCertificate['held']): PlannedCertificate => ({
  spec: {
    name,
    identifiers: [`${name}.test`],
    issuers: ['ca'],
    key: 'ecdsa-p256',
    profile: undefined,
    preferredChain: undefined,
    reuseKey: false,
  },
  held,
  renewalInfo: undefined,
  backoff: undefined,
});

const heldUntil = (name: string, notAfter: Date, renewAt: Date): PlannedCertificate =>
  certificate(name, {
    identifiers: [`${name}.test`],
    origin: 'acme',
    notBefore: new Date(notAfter.getTime() - 40 * DAY_MS),
    notAfter,
    renewAt,
  });

const planFor = (
  certificates: readonly PlannedCertificate[],
  more: Partial<IssuerOutlook> = {},
  pause = async () => {},
) =>
  calendarOf(
    {
      issuer: issuer(),
      certificates,
      ledger: {},
      from: START,
      days: 30,
      ordersInFlight: 8,
      registeredDomain: (name) => name,
      ...more,
    },
    pause,
  );

describe('the coming orders of an issuer', () => {
  test('are those of what is due, each when it is due and as the CA counts it', async () => {
    const { orders, expiring, unissued } = await planFor([
      certificate('never'),
      heldUntil('soon', day(20), day(7)),
      heldUntil('later', day(60), day(40)),
    ]);
    expect(orders).toEqual([
      { certificate: 'never', at: day(0).toISOString(), kind: 'new', reason: 'no certificate held' },
      { certificate: 'soon', at: day(7).toISOString(), kind: 'renewal', reason: 'renewal due' },
      // Certificates of this CA have lived for forty days so far.
      {
        certificate: 'never',
        at: expect.stringMatching(/^2026-06-28/),
        kind: 'renewal',
        reason: 'renewal due',
      },
    ]);
    expect({ expiring, unissued }).toEqual({ expiring: [], unissued: [] });
  });

  test("of Let's Encrypt come as often as each certificate's profile makes it", async () => {
    const directory = 'https://acme-v02.api.letsencrypt.org/directory';
    const own = certificate('own');
    const { orders } = await planFor(
      [certificate('common'), { ...own, spec: { ...own.spec, profile: 'shortlived' } }],
      { issuer: { ...issuer(), directory } },
    );
    const of = (name: string) => orders.filter((order) => order.certificate === name).length;
    expect(of('common')).toBe(1);
    expect(of('own')).toBeGreaterThan(7);
  });

  test('wait for a limit that is used up already, and the plan says so', async () => {
    const limits = { ordersPerAccount: { capacity: 2, refillMs: DAY_MS, spares: [] } };
    const ledger = {
      'ordersPerAccount/ca': { fullAt: day(2), reserved: undefined, notBefore: undefined },
      'ordersPerAccount/other': { fullAt: day(0.5), reserved: undefined, notBefore: undefined },
    };
    const calendar = await planFor(
      ['a', 'b', 'c'].map((name) => certificate(name)),
      {
        issuer: issuer(limits),
        ledger,
        days: 2,
      },
    );
    expect(calendar.orders.map(({ at }) => at)).toEqual([day(1).toISOString()]);
    expect(calendar.waits).toMatchObject([{ day: day(0).toISOString() }, { day: day(1).toISOString() }]);
    expect(calendar.unissued).toEqual(['b', 'c']);
    expect(calendar.limits).toEqual([
      {
        limit: 'ordersPerAccount',
        capacity: 2,
        now: { subject: 'ca', used: 2 },
        peak: { subject: 'ca', used: 2, at: day(1).toISOString() },
      },
    ]);
  });

  test('come too late for what expires before the CA takes them', async () => {
    const ledger = {
      'server/every request': { fullAt: START, reserved: undefined, notBefore: day(10) },
    };
    const { expiring, orders } = await planFor([heldUntil('urgent', day(3), day(0))], { ledger });
    expect(expiring).toEqual([{ certificate: 'urgent', at: day(3).toISOString() }]);
    expect(orders[0]?.at).toBe(day(10).toISOString());
  });

  test('follow the lifetimes that the CA has announced', async () => {
    const directory = 'https://acme-v02.api.letsencrypt.org/directory';
    const { orders } = await planFor([certificate('site')], {
      issuer: { ...issuer(), directory },
      from: new Date('2028-03-01T00:00:00Z'),
      days: 90,
    });
    expect(orders.map(({ at }) => at.slice(0, 10))).toEqual(['2028-03-01', '2028-03-31', '2028-04-30']);
  });

  test('leave time for other work in between, and end when they are no longer wanted', async () => {
    const certificates = Array.from({ length: 500 }, (_, i) => certificate(`c${i}`));
    let pauses = 0;
    await planFor(certificates, {}, async () => void pauses++);
    expect(pauses).toBeGreaterThan(2);
    const unwanted = new Error('nobody waits for it');
    await expect(planFor(certificates, {}, () => Promise.reject(unwanted))).rejects.toBe(unwanted);
  });
});
