import { beforeEach, describe, expect, test } from 'vitest';
import { RateBook } from '../../src/app/rate-book.ts';
import {
  type BundleRecord,
  loadRecord,
  orderRecord,
  type RevocationRecord,
  renewalInfoRecord,
} from '../../src/app/records.ts';
import { KacmeError } from '../../src/domain/errors.ts';
import type { CertificateSpec, IssuerSpec } from '../../src/domain/model.ts';
import type { RateLimits } from '../../src/domain/rate-limits.ts';
import type { RevocationReason } from '../../src/domain/revocation.ts';
import { publicKeyHash } from '../../src/domain/x509.ts';
import { issuingParts } from '../support/issuing.ts';
import { type PaperCa, paperCa } from '../support/paper-ca.ts';
import { testCa } from '../support/pem.ts';
import { appFixture, DAY_MS, effect, issuer, START, spec } from '../unit/app/app-fixture.ts';

const limits: RateLimits = {
  ordersPerAccount: { capacity: 9, refillMs: DAY_MS, spares: ['ari-renewal'] },
  certificatesPerSet: { capacity: 9, refillMs: 30 * DAY_MS, spares: ['ari-renewal'] },
};

let app: Awaited<ReturnType<typeof appFixture>>;
let ca: PaperCa;
beforeEach(async () => {
  app = await appFixture();
  // What the certificates of the paper CA go by.
  app.advance(Date.now() - START.getTime());
  ca = paperCa();
});

function setUp(issuers: Readonly<Record<string, IssuerSpec>> = { ca: issuer(limits) }) {
  const { issuer: issuing, ...parts } = issuingParts(issuers, app.deps, () => ca.authority);
  const issue = ({ signal }: { signal: AbortSignal }, of: CertificateSpec = spec(), at = 'ca') =>
    issuing.issue(of, at, 'the test says so', effect(signal));
  return { ...parts, issue };
}

/** How many places of a limit are taken. */
async function used(limit: string, { signal }: { signal: AbortSignal }): Promise<number> {
  const ledger = await new RateBook(issuer(limits), app.deps).ledger({ signal });
  const [, bucket] = Object.entries(ledger).find(([key]) => key.startsWith(`${limit}/`)) ?? [];
  const { refillMs } = limits[limit as keyof RateLimits] ?? { refillMs: Number.NaN };
  const spentMs = (bucket?.fullAt.getTime() ?? 0) - app.deps.clock.now().getTime();
  return Math.round(Math.max(0, spentMs) / refillMs) + (bucket?.reserved?.count ?? 0);
}

const notReady = () =>
  new KacmeError('ERR_ACME_PROBLEM', 'finalize refused', { retry: 'later', problems: ['orderNotReady'] });

describe('a CA that says orderNotReady of an order that was ready', () => {
  test('and has finalized it meanwhile is followed in the same attempt', async ({ signal }) => {
    ca.override({
      finalize: async (order, { keyPem, identifiers }) => {
        ca.issue(order, keyPem, identifiers);
        throw notReady();
      },
    });
    const { issue, bundles } = setUp();
    await issue({ signal });
    expect(await bundles.active('site', { signal })).toMatchObject({ origin: 'acme', issuer: 'ca' });
    expect(ca.heard.filter((request) => request === 'finalize')).toHaveLength(1);
  });

  test('and has not keeps its order for the next attempt', async ({ signal }) => {
    ca.override({
      finalize: async () => {
        throw notReady();
      },
    });
    const { issue } = setUp();
    await expect(issue({ signal })).rejects.toMatchObject({ problems: ['orderNotReady'] });
    const stored = await loadRecord(app.deps.store, orderRecord, ['site', 'ca'], { signal });
    expect(stored?.value.state).toBe('finalizing');
  });
});

describe('what the CA has issued is counted', () => {
  test('though the certificate is not usable', async ({ signal }) => {
    ca.override({
      certificate: async () => ({ chainPem: testCa().issue(['site.test']).chainPem, alternates: [] }),
    });
    await expect(setUp().issue({ signal })).rejects.toMatchObject({ code: 'ERR_CERTIFICATE_UNUSABLE' });
    expect(await used('certificatesPerSet', { signal })).toBe(1);
    // A place that is only reserved lapses.
    app.advance(2 * DAY_MS);
    expect(await used('certificatesPerSet', { signal })).toBe(1);
  });

  test('though nobody wants it any more', async ({ signal }) => {
    ca.override({
      certificate: async () => {
        throw new KacmeError('ERR_ACME_UNREACHABLE', 'it is down', { retry: 'later' });
      },
    });
    await expect(setUp().issue({ signal })).rejects.toMatchObject({ code: 'ERR_ACME_UNREACHABLE' });
    const other = spec(['other.test', 'site.test']);
    await expect(setUp().issue({ signal }, other)).rejects.toMatchObject({ code: 'ERR_ACME_UNREACHABLE' });
    app.advance(2 * DAY_MS);
    expect(await used('certificatesPerSet', { signal })).toBe(1);
  });

  test('though another issuer was faster', async ({ signal }) => {
    const issuers = {
      ca: issuer(limits),
      other: { ...issuer({}, 'other'), directory: 'https://other.test' },
    };
    const { issue } = setUp(issuers);
    ca.override({
      certificate: async () => {
        throw new KacmeError('ERR_ACME_UNREACHABLE', 'it is down', { retry: 'later' });
      },
    });
    await expect(issue({ signal })).rejects.toMatchObject({ code: 'ERR_ACME_UNREACHABLE' });
    ca = paperCa();
    await setUp(issuers).issue({ signal }, spec(), 'other');
    expect(await loadRecord(app.deps.store, orderRecord, ['site', 'ca'], { signal })).toBeUndefined();
    app.advance(2 * DAY_MS);
    expect(await used('certificatesPerSet', { signal })).toBe(1);
  });

  test('but not what it has refused to issue', async ({ signal }) => {
    ca.override({ finalize: async (order) => ({ ...order, status: 'invalid' }) });
    await expect(setUp().issue({ signal })).rejects.toMatchObject({ code: 'ERR_ACME_ORDER' });
    expect(await used('certificatesPerSet', { signal })).toBe(0);
  });
});

describe('a renewal inside the window of the CA', () => {
  async function renewing(options: { signal: AbortSignal }): Promise<ReturnType<typeof setUp>> {
    const made = setUp();
    await made.issue(options);
    const held = await made.bundles.active('site', options);
    const now = app.deps.clock.now().getTime();
    const at = (ms: number) => new Date(now + ms).toISOString();
    const value = renewalInfoRecord.serialize({
      bundle: held?.id ?? '',
      suggestion: {
        window: { start: at(-DAY_MS), end: at(DAY_MS) },
        renewAt: at(0),
        checkedAt: at(0),
        explanationURL: undefined,
      },
      nextCheckAt: at(DAY_MS),
      failures: 0,
    });
    const puts = [{ key: renewalInfoRecord.key('site'), value }];
    await app.deps.store.transact({ conditions: [], puts, deletes: [] }, effect(options.signal));
    return made;
  }

  test('is free where the CA accepts what it replaces', async ({ signal }) => {
    await (await renewing({ signal })).issue({ signal });
    expect(await used('ordersPerAccount', { signal })).toBe(1);
  });

  test('is counted like any other where the CA does not', async ({ signal }) => {
    const { issue } = await renewing({ signal });
    ca.override({
      newOrder: (names, options) => ca.plain.newOrder(names, { ...options, replaces: undefined }),
    });
    await issue({ signal });
    expect(await used('ordersPerAccount', { signal })).toBe(2);
  });
});

test('a CA that asks to be left alone in the middle of an order is left alone by every certificate', async ({
  signal,
}) => {
  const notBefore = new Date(app.deps.clock.now().getTime() + DAY_MS);
  class Limited extends KacmeError {
    readonly notBefore = notBefore;
  }
  ca.override({
    finalize: async () => {
      throw new Limited('ERR_ACME_RATE_LIMITED', 'service busy', { retry: 'later' });
    },
  });
  const { issue } = setUp();
  await expect(issue({ signal })).rejects.toMatchObject({ code: 'ERR_ACME_RATE_LIMITED' });
  const other = { ...spec(['other.test']), name: 'other' };
  await expect(issue({ signal }, other)).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_NEAR', notBefore });
  expect(ca.heard.filter((request) => request === 'newOrder')).toHaveLength(1);
});

describe('a compromised key', () => {
  const keeps: CertificateSpec = { ...spec(), reuseKey: true };

  /** Two bundles of one key, the second one active. */
  async function twoBundles(options: { signal: AbortSignal }) {
    const made = setUp();
    await made.issue(options, keeps);
    const first = await made.bundles.active('site', options);
    await made.issue(options, keeps);
    const second = await made.bundles.active('site', options);
    if (first === undefined || second === undefined) throw new Error('nothing was issued');
    expect(publicKeyHash(second.keyPem)).toBe(publicKeyHash(first.keyPem));
    return { ...made, first, second };
  }

  const revocation = (
    bundle: BundleRecord,
    reason: RevocationReason = 'keyCompromise',
  ): RevocationRecord => ({
    reason,
    signedBy: 'account',
    requestedAt: app.deps.clock.now().toISOString(),
    revokedAt: undefined,
    publicKey: publicKeyHash(bundle.keyPem),
    failures: 0,
    lastFailure: undefined,
    notBefore: undefined,
  });

  test('that is certified again at this very moment is not taken into use', async ({ signal }) => {
    const { issue, bundles, second } = await twoBundles({ signal });
    ca.override({
      finalize: async (order, { keyPem, identifiers }) => {
        await bundles.putRevocation(second, revocation(second), effect(signal));
        return ca.issue(order, keyPem, identifiers);
      },
    });
    await expect(issue({ signal }, keeps)).rejects.toMatchObject({
      code: 'ERR_CERTIFICATE_UNUSABLE',
      retry: 'later',
      message: expect.stringContaining('its key is compromised'),
    });
    expect((await bundles.active('site', { signal }))?.id).toBe(second.id);
    ca.override({ finalize: ca.plain.finalize });
    await issue({ signal }, keeps);
    const after = await bundles.active('site', { signal });
    expect(publicKeyHash(after?.keyPem ?? '')).not.toBe(publicKeyHash(second.keyPem));
  });

  test.for([
    { reason: 'keyCompromise', unfit: /^its key is compromised: [0-9a-f]{16} has it/, former: 'revoked' },
    { reason: 'superseded', unfit: undefined, former: 'active' },
  ] as const)(
    'makes every bundle that has it unfit: $former after $reason of another one',
    async ({ reason, unfit, former }, { signal }) => {
      const { bundles, renewalInfo, first, second } = await twoBundles({ signal });
      await bundles.putRevocation(first, revocation(first, reason), effect(signal));
      const held = (await renewalInfo.of('site', { signal }))?.held;
      if (unfit === undefined) expect(held?.unfit).toBeUndefined();
      else expect(held?.unfit).toMatch(unfit);
      const history = await bundles.former('site', { signal });
      expect(history.find(({ id }) => id === second.id)?.state).toBe(former);
      expect(history.find(({ id }) => id === first.id)?.state).toBe('revoked');
    },
  );

  test('is not installed again by a rollback, nor under the name of another certificate', async ({
    signal,
  }) => {
    const { bundles, first, second } = await twoBundles({ signal });
    await bundles.putRevocation(second, revocation(second), effect(signal));
    const again = { id: first.id, reason: 'the test says so' };
    await expect(bundles.activateAgain(keeps, again, {}, effect(signal))).rejects.toMatchObject({
      code: 'ERR_CERTIFICATE_UNUSABLE',
    });
    const { chainPem, keyPem } = first;
    const adopted = { chainPem, keyPem, origin: 'adopted', issuer: undefined, reason: 'adopted' } as const;
    const other = { ...spec(), name: 'other' };
    await expect(bundles.activate(other, adopted, {}, effect(signal))).rejects.toMatchObject({
      code: 'ERR_CERTIFICATE_UNUSABLE',
    });
  });
});
