import { beforeEach, expect, test } from 'vitest';
import type { BundleRecord } from '../../src/app/records.ts';
import { holdRecord, renewalInfoRecord } from '../../src/app/records.ts';
import { publicKeyHash } from '../../src/domain/x509.ts';
import { issuingParts } from '../support/issuing.ts';
import { paperCa } from '../support/paper-ca.ts';
import { appFixture, DAY_MS, effect, issuer, START, spec } from '../unit/app/app-fixture.ts';

let app: Awaited<ReturnType<typeof appFixture>>;
beforeEach(async () => {
  app = await appFixture();
  app.advance(Date.now() - START.getTime());
});

const inDays = (days: number) => new Date(app.deps.clock.now().getTime() + days * DAY_MS).toISOString();

/** A certificate of 90 days that was issued just now. */
async function issued({ signal }: { signal: AbortSignal }) {
  const ca = paperCa();
  const parts = issuingParts({ ca: issuer() }, app.deps, () => ca.authority);
  await parts.issuer.issue(spec(), 'ca', 'the test says so', effect(signal));
  const held = await parts.bundles.active('site', { signal });
  if (held === undefined) throw new Error('nothing was issued');
  const put = (key: string, value: string) =>
    app.deps.store.transact({ conditions: [], puts: [{ key, value }], deletes: [] }, effect(signal));
  const firstOrder = async () => {
    const { issuers } = await parts.outlookOf({ site: spec() }).calendar({ days: 80 }, { signal });
    return issuers[0]?.orders[0];
  };
  return { bundles: parts.bundles, held, put, firstOrder };
}

const suggest = ({ id }: BundleRecord, from: number, to: number): string =>
  renewalInfoRecord.serialize({
    bundle: id,
    suggestion: {
      window: { start: inDays(from), end: inDays(to) },
      renewAt: inDays((from + to) / 2),
      checkedAt: inDays(0),
      explanationURL: undefined,
    },
    nextCheckAt: inDays(1),
    failures: 0,
  });

test('a renewal is planned in the window that the CA suggested, without counting against its limits', async ({
  signal,
}) => {
  const { held, put, firstOrder } = await issued({ signal });
  expect(await firstOrder()).toMatchObject({ kind: 'renewal', at: held.renewAt });
  await put(renewalInfoRecord.key('site'), suggest(held, 10, 12));
  expect(await firstOrder()).toMatchObject({
    kind: 'ari-renewal',
    at: inDays(11),
    reason: expect.stringContaining("the CA's window"),
  });
});

test('a bundle that an operator went back to is planned to be held, whatever the CA suggests', async ({
  signal,
}) => {
  const { held, put, firstOrder } = await issued({ signal });
  await put(renewalInfoRecord.key('site'), suggest(held, 10, 12));
  await put(holdRecord.key('site'), holdRecord.serialize({ bundle: held.id, until: inDays(30) }));
  expect(await firstOrder()).toMatchObject({ at: inDays(30) });
});

test('what is revoked is planned to be replaced at once', async ({ signal }) => {
  const { bundles, held, firstOrder } = await issued({ signal });
  const revocation = {
    reason: 'superseded',
    signedBy: 'account',
    requestedAt: inDays(0),
    revokedAt: inDays(0),
    publicKey: publicKeyHash(held.keyPem),
    failures: 0,
    lastFailure: undefined,
    notBefore: undefined,
  } as const;
  await bundles.putRevocation(held, revocation, effect(signal));
  expect(await firstOrder()).toMatchObject({ at: inDays(0), reason: expect.stringContaining('revoked') });
});
