import { describe, expect, test } from 'vitest';
import {
  EVERY_REQUEST,
  judgeAccount,
  judgeOrder,
  type Ledger,
  recordAbandoned,
  recordAccount,
  recordFailedAuthorization,
  recordIssuance,
  recordOrder,
  recordRateLimited,
  scopeOfRefusal,
  shareOf,
} from '../../../src/domain/rate-ledger.ts';
import {
  limitedOrder,
  LETS_ENCRYPT_LIMITS as limits,
  type OrderKind,
} from '../../../src/domain/rate-limits.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const now = new Date('2026-06-01T00:00:00Z');
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);
const registeredDomain = (name: string) => name.split('.').slice(-2).join('.');
const orderFor = (identifiers: readonly string[], kind: OrderKind = 'new') =>
  limitedOrder({ account: 'acct', identifiers, kind }, registeredDomain);
const order = orderFor(['a.example.org']);

/** The ledger after `count` orders, each issued at once. */
function issued(count: number, of: (i: number) => ReturnType<typeof orderFor>, when = now): Ledger {
  let ledger: Ledger = {};
  for (let i = 0; i < count; i += 1) {
    ledger = recordOrder(ledger, limits, of(i), when);
    ledger = recordIssuance(ledger, limits, of(i), when);
  }
  return ledger;
}

describe('judgeOrder', () => {
  test.each([
    {
      limit: 'ordersPerAccount' as const,
      count: 300,
      of: (i: number) => orderFor([`a.d${i}.org`]),
      refillMs: 36_000,
    },
    {
      limit: 'certificatesPerDomain' as const,
      count: 50,
      of: (i: number) => orderFor([`n${i}.example.org`]),
      refillMs: 202 * MINUTE,
    },
    {
      limit: 'certificatesPerSet' as const,
      count: 5,
      of: () => orderFor(['B.example.org', 'a.example.org']),
      refillMs: 34 * HOUR,
    },
  ])(
    'allows $count at once by $limit, then one after each $refillMs ms',
    ({ limit, count, of, refillMs }) => {
      expect(judgeOrder(issued(count - 1, of), limits, of(count), now)).toEqual({ allowed: true });
      const ledger = issued(count, of);
      const verdict = judgeOrder(ledger, limits, of(count), now);
      expect(verdict).toMatchObject({ allowed: false, limit, until: at(refillMs) });
      expect(judgeOrder(ledger, limits, of(count), at(refillMs - 1)).allowed).toBe(false);
      expect(judgeOrder(ledger, limits, of(count), at(refillMs)).allowed).toBe(true);
      const next = recordIssuance(
        recordOrder(ledger, limits, of(count), at(refillMs)),
        limits,
        of(count),
        at(refillMs),
      );
      expect(judgeOrder(next, limits, of(count), at(refillMs))).toMatchObject({ until: at(2 * refillMs) });
    },
  );

  test('counts the exact set in any order and case, whatever the account', () => {
    const ledger = issued(5, () => orderFor(['a.example.org', 'b.example.org']));
    const other = limitedOrder(
      { account: 'other', identifiers: ['B.example.org', 'a.example.org'], kind: 'new' },
      registeredDomain,
    );
    expect(judgeOrder(ledger, limits, other, now)).toMatchObject({ limit: 'certificatesPerSet' });
    expect(judgeOrder(ledger, limits, orderFor(['a.example.org']), now).allowed).toBe(true);
  });

  test('says which limit of what is used up, and until when', () => {
    const ledger = issued(50, (i) => orderFor([`n${i}.example.org`]));
    expect(judgeOrder(ledger, limits, order, now)).toEqual({
      allowed: false,
      until: at(202 * MINUTE),
      limit: 'certificatesPerDomain',
      bucket: 'certificatesPerDomain/example.org',
      reason:
        'certificates for registered domain example.org: the limit of 50 is used up until 2026-06-01T03:22:00.000Z',
    });
  });

  test('names the limit that is the last to give way', () => {
    const ledger = {
      ...issued(50, (i) => orderFor([`n${i}.example.org`])),
      ...issued(5, () => orderFor(['a.example.org'])),
    };
    expect(judgeOrder(ledger, limits, order, now)).toMatchObject({ limit: 'certificatesPerSet' });
  });

  test.each([
    { kind: 'new' as const, domain: false, set: false },
    { kind: 'renewal' as const, domain: true, set: false },
    { kind: 'ari-renewal' as const, domain: true, set: true },
  ])('an order that is $kind passes a used up domain: $domain, set: $set', ({ kind, domain, set }) => {
    const usedDomain = issued(50, (i) => orderFor([`n${i}.example.org`]));
    const usedSet = issued(5, () => order);
    expect(judgeOrder(usedDomain, limits, orderFor(['a.example.org'], kind), now).allowed).toBe(domain);
    expect(judgeOrder(usedSet, limits, orderFor(['a.example.org'], kind), now).allowed).toBe(set);
  });

  test('an exempt renewal uses no orders and no domain, but its exact set, as the CA counts it', () => {
    const renewal = orderFor(['a.example.org'], 'ari-renewal');
    expect(Object.keys(issued(3, () => renewal))).toEqual([renewal.exactSet.key]);
    // Never more than empty: there is no debt.
    const ledger = issued(50, () => renewal);
    expect(judgeOrder(ledger, limits, order, now)).toMatchObject({ until: at(34 * HOUR) });
  });

  test('a CA without limits refuses nothing and nothing is counted', () => {
    const ledger = recordOrder({}, {}, order, now);
    expect(ledger).toEqual({});
    expect(judgeOrder(ledger, {}, order, now).allowed).toBe(true);
  });
});

describe('orders in flight', () => {
  const sameSet = orderFor(['a.example.org']);
  const five = Array.from({ length: 5 }).reduce<Ledger>(
    (ledger) => recordOrder(ledger, limits, sameSet, now),
    {},
  );

  test('reserve what they will use', () => {
    expect(judgeOrder(five, limits, sameSet, at(MINUTE))).toMatchObject({ limit: 'certificatesPerSet' });
  });

  test('give it back when they die, but stay counted as orders', () => {
    const abandoned = recordAbandoned(five, limits, sameSet, at(MINUTE));
    expect(judgeOrder(abandoned, limits, sameSet, at(MINUTE)).allowed).toBe(true);
    const account = abandoned[sameSet.account.key];
    expect(shareOf(account, limits, 'ordersPerAccount', now) * 300).toBe(5);
  });

  test('are counted from their issuance', () => {
    const late = Array.from({ length: 5 }).reduce<Ledger>(
      (ledger) => recordIssuance(ledger, limits, sameSet, at(10 * MINUTE)),
      five,
    );
    expect(judgeOrder(late, limits, sameSet, at(10 * MINUTE))).toMatchObject({
      until: at(34 * HOUR + 10 * MINUTE),
    });
  });

  test('that nobody settles are forgotten after a day', () => {
    expect(judgeOrder(five, limits, sameSet, at(DAY - 1)).allowed).toBe(false);
    expect(judgeOrder(five, limits, sameSet, at(DAY)).allowed).toBe(true);
    expect(recordAccount(five, limits, at(2 * DAY))).not.toHaveProperty([sameSet.exactSet.key]);
  });

  test('that were not recorded are counted when they are issued', () => {
    const ledger = recordIssuance({}, limits, sameSet, now);
    expect(ledger[sameSet.exactSet.key]?.fullAt).toEqual(at(34 * HOUR));
    expect(recordAbandoned({}, limits, sameSet, now)).toEqual({});
  });
});

describe('failed authorizations', () => {
  const fail = (ledger: Ledger) =>
    recordFailedAuthorization(ledger, limits, { account: 'acct', identifier: 'a.example.org' }, now);
  const five = fail(fail(fail(fail(fail({})))));

  test('hold up orders with that identifier after five, for twelve minutes each', () => {
    expect(judgeOrder(fail(fail({})), limits, order, now).allowed).toBe(true);
    expect(judgeOrder(five, limits, orderFor(['b.test', 'a.example.org']), now)).toMatchObject({
      limit: 'failedAuthorizations',
      until: at(12 * MINUTE),
    });
    expect(judgeOrder(five, limits, orderFor(['b.example.org']), now).allowed).toBe(true);
    expect(judgeOrder(five, limits, order, at(12 * MINUTE)).allowed).toBe(true);
  });

  test('are those of one account', () => {
    const elsewhere = limitedOrder(
      { account: 'other', identifiers: ['a.example.org'], kind: 'new' },
      registeredDomain,
    );
    expect(judgeOrder(five, limits, elsewhere, now).allowed).toBe(true);
  });
});

describe('recordRateLimited', () => {
  test.each([
    { scope: EVERY_REQUEST, sameName: false, sameDomain: false, elsewhere: false },
    { scope: order.account.key, sameName: false, sameDomain: false, elsewhere: false },
    { scope: 'certificatesPerDomain/example.org', sameName: false, sameDomain: false, elsewhere: true },
    { scope: order.exactSet.key, sameName: false, sameDomain: true, elsewhere: true },
  ])('holds up what $scope concerns, exempt or not, until the CA said', ({ scope, ...passes }) => {
    const ledger = recordRateLimited({}, scope, at(HOUR), now);
    const allowed = (name: string, when: Date) =>
      judgeOrder(ledger, limits, orderFor([name], 'ari-renewal'), when).allowed;
    expect({
      scope,
      sameName: allowed('a.example.org', now),
      sameDomain: allowed('b.example.org', now),
      elsewhere: allowed('a.example.net', now),
    }).toEqual({ scope, ...passes });
    expect(allowed('a.example.org', at(HOUR))).toBe(true);
  });

  test('says that it is the word of the CA', () => {
    const ledger = recordRateLimited({}, EVERY_REQUEST, at(HOUR), now);
    expect(judgeOrder(ledger, limits, order, now)).toMatchObject({ limit: 'server', until: at(HOUR) });
    expect(judgeAccount(ledger, limits, now)).toMatchObject({ limit: 'server' });
  });

  test('never shortens an earlier word, and survives being counted and stored', () => {
    let ledger = recordRateLimited({}, order.exactSet.key, at(2 * HOUR), now);
    ledger = recordRateLimited(ledger, order.exactSet.key, at(HOUR), now);
    ledger = recordIssuance(recordOrder(ledger, limits, order, now), limits, order, now);
    const stored: unknown = JSON.parse(JSON.stringify(ledger));
    expect(stored).toMatchObject({ [order.exactSet.key]: { notBefore: at(2 * HOUR).toISOString() } });
    expect(judgeOrder(ledger, limits, order, now)).toMatchObject({ until: at(2 * HOUR) });
  });

  test('is forgotten afterwards', () => {
    const ledger = recordRateLimited({}, EVERY_REQUEST, at(HOUR), now);
    expect(recordAccount(ledger, {}, at(HOUR))).toEqual({});
  });
});

describe('scopeOfRefusal', () => {
  test('is the exact set when our own count explains nothing', () => {
    expect(scopeOfRefusal({}, limits, order, now)).toBe(order.exactSet.key);
  });

  test('is the bucket that is the fullest by our own count', () => {
    const ledger = issued(40, (i) => orderFor([`n${i}.example.org`]));
    expect(scopeOfRefusal(ledger, limits, order, now)).toBe('certificatesPerDomain/example.org');
  });

  test('is no bucket that the order is spared from', () => {
    const ledger = issued(40, (i) => orderFor([`n${i}.example.org`]));
    const renewal = orderFor(['a.example.org'], 'renewal');
    expect(scopeOfRefusal(ledger, limits, renewal, now)).toBe(order.exactSet.key);
  });
});

test('accounts are limited to ten from here, one more each 18 minutes', () => {
  let ledger: Ledger = {};
  for (let i = 0; i < 10; i += 1) {
    expect(judgeAccount(ledger, limits, now).allowed).toBe(true);
    ledger = recordAccount(ledger, limits, now);
  }
  expect(judgeAccount(ledger, limits, now)).toMatchObject({
    limit: 'accountsPerAddress',
    until: at(18 * MINUTE),
  });
});

test('the ledger keeps what was used lately and nothing else', () => {
  let ledger: Ledger = {};
  for (let i = 0; i < 200; i += 1) {
    const one = orderFor([`a.d${i}.org`]);
    const when = at(i * HOUR);
    ledger = recordIssuance(recordOrder(ledger, limits, one, when), limits, one, when);
  }
  expect(Object.keys(ledger).length).toBeLessThan(40);
});

test('a set of names has one short name in any order', () => {
  const many = Array.from({ length: 100 }, (_, i) => `n${i}.${'long.'.repeat(20)}example.org`);
  const { key } = orderFor(many).exactSet;
  expect(key.length).toBeLessThan(300);
  expect(orderFor([...many].reverse()).exactSet.key).toBe(key);
  expect(orderFor(many.slice(1)).exactSet.key).not.toBe(key);
  expect(orderFor(['a.test']).exactSet.key).toMatch(/^certificatesPerSet\/a\.test \([0-9a-f]{16}\)$/);
});
