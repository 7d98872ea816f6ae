import { beforeEach, describe, expect, test } from 'vitest';
import { OrderJournal, type StoredOrder } from '../../../src/app/order-journal.ts';
import { RateBook } from '../../../src/app/rate-book.ts';
import { challengeRecord, loadRecord, revocationRecord } from '../../../src/app/records.ts';
import { type ErrorCode, KacmeError } from '../../../src/domain/errors.ts';
import { publicKeyHash } from '../../../src/domain/x509.ts';
import type { CertificateAuthority, Order } from '../../../src/ports/certificate-authority.ts';
import type { EffectOptions } from '../../../src/ports/leadership.ts';
import { silentAuthority } from '../../support/silent-authority.ts';
import { appFixture, effect, issuer, NO_TERMS, START, spec } from './app-fixture.ts';

const URL_OF_ORDER = 'https://ca.test/order/1';

const orderThatIs = (status: Order['status'], error?: string): Order => ({
  url: URL_OF_ORDER,
  status,
  authorizations: ['https://ca.test/authz/1'],
  finalize: `${URL_OF_ORDER}/finalize`,
  certificate: status === 'valid' ? 'https://ca.test/cert/1' : undefined,
  expires: undefined,
  replaces: undefined,
  profile: undefined,
  error,
});

const failure = (code: ErrorCode) => new KacmeError(code, `the CA said ${code}`, { retry: 'later' });

/** A CA that has one order, and answers `newOrder` and `order` with it, or with an error. */
function caWith(answer: Order | KacmeError): CertificateAuthority {
  const give = async () => {
    if (answer instanceof KacmeError) throw answer;
    return answer;
  };
  return {
    ...silentAuthority,
    newOrder: give,
    order: give,
  };
}

let app: Awaited<ReturnType<typeof appFixture>>;
beforeEach(async () => {
  app = await appFixture();
});

const journalFor = (identifiers?: readonly string[]) =>
  new OrderJournal(spec(identifiers), 'ca', {
    ...app.deps,
    book: new RateBook(issuer(), app.deps),
    terms: NO_TERMS,
  });

const opened = async (options: EffectOptions): Promise<StoredOrder> =>
  (await journalFor().open(caWith(orderThatIs('pending')), { kind: 'new' }, options)).stored;

const warned = () =>
  app.logged().flatMap((line) => (line['msg'] === 'order abandoned' ? [String(line['reason'])] : []));

describe('open', () => {
  test('stores the order with the key it will be finalized with', async ({ signal }) => {
    const { order } = await opened(effect(signal));
    expect(order).toMatchObject({ url: URL_OF_ORDER, state: 'created', identifiers: ['site.test'] });
    expect((await journalFor().load({ signal }))?.order).toEqual(order);
    expect(JSON.stringify(app.logged())).not.toContain('PRIVATE KEY');
  });

  test('takes the key that it is given', async ({ signal }) => {
    const keyPem = await app.deps.pki.generateKey('ecdsa-p256');
    const lineage = { kind: 'renewal', keyPem } as const;
    const { stored } = await journalFor().open(caWith(orderThatIs('pending')), lineage, effect(signal));
    expect(stored.order.keyPem).toBe(keyPem);
  });

  test.for([
    { code: 'ERR_ACME_PROBLEM', left: undefined },
    { code: 'ERR_ACME_PROFILE', left: undefined },
    { code: 'ERR_ACME_TERMS', left: undefined },
    { code: 'ERR_ACME_RATE_LIMITED', left: undefined },
    { code: 'ERR_ACME_TIMEOUT', left: 'creating' },
    { code: 'ERR_ACME_UNREACHABLE', left: 'creating' },
  ] as const)(
    'after $code keeps in mind whether there may be an order',
    async ({ code, left }, { signal }) => {
      const journal = journalFor();
      await expect(
        journal.open(caWith(failure(code)), { kind: 'new' }, effect(signal)),
      ).rejects.toMatchObject({
        code,
      });
      const stored = await journal.load({ signal });
      expect(stored?.order.state).toBe(left);
      expect(stored?.order.url).toBeUndefined();
    },
  );
});

describe('resume', () => {
  test.for(['pending', 'ready', 'processing', 'valid'] as const)(
    'takes up an order that is %s, with its key',
    async (status, { signal }) => {
      const stored = await opened(effect(signal));
      const resumed = await journalFor().resume(stored, caWith(orderThatIs(status)), effect(signal));
      expect(resumed).toEqual({ stored, order: orderThatIs(status) });
      expect(warned()).toEqual([]);
    },
  );

  test.for([
    {
      when: 'the CA says it is invalid',
      ca: caWith(orderThatIs('invalid', 'no such domain')),
      reason: 'no such domain',
    },
    {
      when: 'the CA no longer knows it',
      ca: { ...caWith(orderThatIs('pending')), order: async () => undefined },
      reason: 'the CA no longer knows it',
    },
  ])('abandons it when $when', async ({ ca, reason }, { signal }) => {
    const stored = await opened(effect(signal));
    const resumed = await journalFor().resume(stored, ca, effect(signal));
    expect(resumed).toBeUndefined();
    expect(await journalFor().load({ signal })).toBeUndefined();
    expect(warned()).toEqual([reason]);
  });

  test('abandons it when the configured identifiers have changed, in whatever order they stand', async ({
    signal,
  }) => {
    const ca = caWith(orderThatIs('pending'));
    const { stored } = await journalFor(['a.test', 'b.test']).open(ca, { kind: 'new' }, effect(signal));
    const same = await journalFor(['b.test', 'a.test']).resume(stored, ca, effect(signal));
    expect(same?.order.status).toBe('pending');
    const changed = await journalFor(['a.test', 'c.test']).resume(stored, ca, effect(signal));
    expect(changed).toBeUndefined();
    expect(warned()).toEqual(['the configured identifiers have changed']);
  });

  test('abandons it when a certificate with its key is revoked', async ({ signal }) => {
    const stored = await opened(effect(signal));
    const key = revocationRecord.key('site', 'aa11');
    const value = revocationRecord.serialize({
      reason: 'keyCompromise',
      signedBy: 'account',
      requestedAt: START.toISOString(),
      revokedAt: undefined,
      publicKey: publicKeyHash(stored.order.keyPem),
      failures: 0,
      lastFailure: undefined,
      notBefore: undefined,
    });
    await app.deps.store.transact({ conditions: [], puts: [{ key, value }], deletes: [] }, effect(signal));
    const resumed = await journalFor().resume(stored, caWith(orderThatIs('valid')), effect(signal));
    expect(resumed).toBeUndefined();
    expect(warned()).toEqual(['a certificate with its key is revoked, or to be']);
  });

  test('abandons one whose newOrder was sent but never answered', async ({ signal }) => {
    const journal = journalFor();
    await journal
      .open(caWith(failure('ERR_ACME_TIMEOUT')), { kind: 'new' }, effect(signal))
      .catch(() => undefined);
    const stored = await journal.load({ signal });
    if (stored === undefined) throw new Error('the intent is stored');
    const resumed = await journal.resume(stored, caWith(orderThatIs('pending')), effect(signal));
    expect(resumed).toBeUndefined();
    expect(warned()).toEqual(['its newOrder was sent but the answer was lost']);
  });

  test.for([
    'ERR_ACME_UNREACHABLE',
    'ERR_ACME_TIMEOUT',
    'ERR_ACME_RATE_LIMITED',
    'ERR_ACME_PROBLEM',
  ] as const)('keeps it when the CA cannot say how it stands (%s)', async (code, { signal }) => {
    const stored = await opened(effect(signal));
    const resuming = journalFor().resume(stored, caWith(failure(code)), effect(signal));
    await expect(resuming).rejects.toMatchObject({ code });
    expect(await journalFor().load({ signal })).toEqual(stored);
  });
});

test('an abandoned order takes its challenges with it', async ({ signal }) => {
  const journal = journalFor();
  const authorization = {
    url: 'https://ca.test/authz/1',
    identifier: 'site.test',
    status: 'pending' as const,
    error: undefined,
    http01: undefined,
  };
  const http01 = { url: 'https://ca.test/chall/1', token: 'Token_1', keyAuthorization: 'Token_1.print' };
  const published = await journal.publishChallenges(
    await opened(effect(signal)),
    [{ authorization, http01 }],
    effect(signal),
  );
  expect((await loadRecord(app.deps.store, challengeRecord, 'Token_1', { signal }))?.value).toMatchObject({
    identifier: 'site.test',
    keyAuthorization: 'Token_1.print',
  });
  await journal.abandon(published, 'the test says so', effect(signal));
  expect(await loadRecord(app.deps.store, challengeRecord, 'Token_1', { signal })).toBeUndefined();
});

test('a write of another process in between is a conflict, not overwritten', async ({ signal }) => {
  const stored = await opened(effect(signal));
  await journalFor().finalizing(stored, effect(signal));
  await expect(journalFor().finalizing(stored, effect(signal))).rejects.toMatchObject({
    code: 'ERR_STORE_CONFLICT',
  });
});
