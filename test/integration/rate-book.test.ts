import { beforeEach, describe, expect, test } from 'vitest';
import { OrderJournal } from '../../src/app/order-journal.ts';
import { RateBook } from '../../src/app/rate-book.ts';
import { KacmeError } from '../../src/domain/errors.ts';
import type { CertificateSpec } from '../../src/domain/model.ts';
import type { RateLimits } from '../../src/domain/rate-limits.ts';
import type { CertificateAuthority, Order } from '../../src/ports/certificate-authority.ts';
import { silentAuthority } from '../support/silent-authority.ts';
import { appFixture, effect, issuer, NO_TERMS, START, spec } from '../unit/app/app-fixture.ts';

const HOUR_MS = 3_600_000;
const limits: RateLimits = {
  ordersPerAccount: { capacity: 2, refillMs: HOUR_MS / 2, spares: [] },
  certificatesPerSet: { capacity: 1, refillMs: HOUR_MS, spares: [] },
  failedAuthorizations: { capacity: 1, refillMs: HOUR_MS, spares: [] },
  accountsPerAddress: { capacity: 1, refillMs: HOUR_MS, spares: [] },
};
const later = (ms: number) => new Date(START.getTime() + ms).toISOString();

let app: Awaited<ReturnType<typeof appFixture>>;
beforeEach(async () => {
  app = await appFixture();
});

const bookWith = (changed: RateLimits = limits, name = 'ca') => new RateBook(issuer(changed, name), app.deps);
const named = (name: string): CertificateSpec => ({ ...spec([`${name}.test`]), name });
const orderOf = (name: string) => ({ identifiers: [`${name}.test`], kind: 'new' as const });
const journalOf = (name: string, book = bookWith()) =>
  new OrderJournal(named(name), 'ca', { ...app.deps, book, terms: NO_TERMS });

/** A CA that takes every order, or refuses every one; counts what it heard. */
function ca(refusal?: KacmeError) {
  let heard = 0;
  const order: Order = {
    url: 'https://ca.test/order/1',
    status: 'pending',
    authorizations: [],
    finalize: 'https://ca.test/order/1/finalize',
    certificate: undefined,
    replaces: undefined,
    profile: undefined,
    expires: undefined,
    error: undefined,
  };
  const authority: CertificateAuthority = {
    ...silentAuthority,
    newOrder: async () => {
      heard += 1;
      if (refusal !== undefined) throw refusal;
      return order;
    },
  };
  return { authority, heard: () => heard };
}

class Refusal extends KacmeError {
  readonly notBefore: Date;

  constructor(notBefore: Date) {
    super('ERR_ACME_RATE_LIMITED', 'too many of everything', { retry: 'later' });
    this.notBefore = notBefore;
  }
}

describe('an order beyond a limit', () => {
  test('never reaches the CA, and its error names the limit, its numbers and until when', async ({
    signal,
  }) => {
    const { authority, heard } = ca();
    for (const name of ['a', 'b']) await journalOf(name).open(authority, { kind: 'new' }, effect(signal));
    await expect(journalOf('c').open(authority, { kind: 'new' }, effect(signal))).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_NEAR',
      retry: 'later',
      notBefore: new Date(later(HOUR_MS / 2)),
      message: expect.stringMatching(
        `cannot order c.test from ca yet: .*orders of account ca: the limit of 2 is used up until ${later(HOUR_MS / 2)} .*ordersPerAccount: 2, one back every 1800 s`,
      ),
      remedy: expect.stringContaining('--force cannot override'),
    });
    expect(heard()).toBe(2);
    expect(await journalOf('c').load({ signal })).toBeUndefined();
  });

  test('is counted with those of a process before it, and taken once the limit gives way', async ({
    signal,
  }) => {
    const { authority } = ca();
    for (const name of ['a', 'b']) await journalOf(name).open(authority, { kind: 'new' }, effect(signal));
    const deps = await app.restarted();
    const book = new RateBook(issuer(limits), deps);
    const journal = new OrderJournal(named('c'), 'ca', { ...deps, book, terms: NO_TERMS });
    await expect(journal.open(authority, { kind: 'new' }, effect(signal))).rejects.toMatchObject({
      code: 'ERR_RATE_LIMIT_NEAR',
    });
    app.advance(HOUR_MS / 2);
    expect((await journal.open(authority, { kind: 'new' }, effect(signal))).stored.order.state).toBe(
      'created',
    );
  });

  test('is found among orders that are opened side by side', async ({ signal }) => {
    const { authority, heard } = ca();
    const opened = await Promise.allSettled(
      ['a', 'b', 'c', 'd', 'e'].map((name) =>
        journalOf(name).open(authority, { kind: 'new' }, effect(signal)),
      ),
    );
    expect(opened.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
    expect(heard()).toBe(2);
    const refused = opened.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    for (const error of refused) expect(error).toMatchObject({ code: 'ERR_RATE_LIMIT_NEAR' });
  });

  test('does not concern the account of another issuer at the same directory', async ({ signal }) => {
    const { authority } = ca();
    for (const name of ['a', 'b']) await journalOf(name).open(authority, { kind: 'new' }, effect(signal));
    await expect(bookWith(limits, 'other').assertTakes(orderOf('c'), { signal })).resolves.toBeUndefined();
    await expect(bookWith().assertTakes(orderOf('c'), { signal })).rejects.toThrow('used up');
  });
});

describe('the ledger', () => {
  test('holds the place of an order in flight, and gives it back when the order is abandoned', async ({
    signal,
  }) => {
    const { stored } = await journalOf('a').open(ca().authority, { kind: 'new' }, effect(signal));
    await expect(bookWith().assertTakes(orderOf('a'), { signal })).rejects.toThrow('for exactly the names');
    await journalOf('a').abandon(stored, 'the test says so', effect(signal));
    await expect(bookWith().assertTakes(orderOf('a'), { signal })).resolves.toBeUndefined();
  });

  test('remembers a failed authorization', async ({ signal }) => {
    const { stored } = await journalOf('a').open(ca().authority, { kind: 'new' }, effect(signal));
    const also = bookWith().failed(['a.test']);
    await journalOf('a').abandon(stored, 'not authorized', effect(signal), { also });
    await expect(bookWith().assertTakes(orderOf('a'), { signal })).rejects.toThrow(
      `failed authorizations of a.test for ca: the limit of 1 is used up until ${later(HOUR_MS)}`,
    );
  });

  test('counts accounts', async ({ signal }) => {
    await bookWith().assertRegisters({ signal });
    await bookWith().record(bookWith().registered(), effect(signal));
    await expect(bookWith().assertRegisters({ signal })).rejects.toThrow('cannot register an account at ca');
  });

  test('is not written at all for a CA without limits', async ({ signal }) => {
    const journal = journalOf('a', bookWith({}));
    const { stored } = await journal.open(ca().authority, { kind: 'new' }, effect(signal));
    await journal.abandon(stored, 'the test says so', effect(signal));
    expect(await app.deps.store.list('ledger/', { signal })).toEqual([]);
  });

  test('leaves a conflict about something else to whoever met it', async ({ signal }) => {
    const { stored } = await journalOf('a').open(ca().authority, { kind: 'new' }, effect(signal));
    await journalOf('a').finalizing(stored, effect(signal));
    await expect(journalOf('a').abandon(stored, 'too late', effect(signal))).rejects.toMatchObject({
      code: 'ERR_STORE_CONFLICT',
    });
  });
});

describe("the CA's own refusal", () => {
  const until = new Date(later(5 * HOUR_MS));

  test.for([
    { what: 'whose account limit is half used', known: limits },
    { what: 'whose limits are not known', known: {} },
  ])('of a CA $what is obeyed by every certificate of the account', async ({ known }, { signal }) => {
    const journal = journalOf('a', bookWith(known));
    const refused = journal.open(ca(new Refusal(until)).authority, { kind: 'new' }, effect(signal));
    await expect(refused).rejects.toMatchObject({ code: 'ERR_ACME_RATE_LIMITED' });
    const { authority, heard } = ca();
    const other = journalOf('b', bookWith(known)).open(authority, { kind: 'new' }, effect(signal));
    await expect(other).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_NEAR', notBefore: until });
    expect(heard()).toBe(0);
    app.advance(5 * HOUR_MS);
    await expect(bookWith(known).assertTakes(orderOf('b'), { signal })).resolves.toBeUndefined();
  });

  test('of anything but an order holds for everything', async ({ signal }) => {
    await bookWith().record(bookWith().heldOff(until), effect(signal));
    const renewal = { identifiers: ['c.test'], kind: 'ari-renewal' as const };
    await expect(bookWith().assertTakes(renewal, { signal })).rejects.toMatchObject({ notBefore: until });
    await expect(bookWith().assertRegisters({ signal })).rejects.toMatchObject({ notBefore: until });
  });
});
