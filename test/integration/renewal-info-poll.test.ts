import { beforeEach, describe, expect, test } from 'vitest';
import { Authorities } from '../../src/app/authorities.ts';
import { Bundles } from '../../src/app/bundles.ts';
import { holdRecord, loadRecord, renewalInfoRecord } from '../../src/app/records.ts';
import { RenewalInformation } from '../../src/app/renewal-info.ts';
import { KacmeError } from '../../src/domain/errors.ts';
import type { RenewalInfoAnswer } from '../../src/domain/renewal-info.ts';
import type { CertificateAuthority } from '../../src/ports/certificate-authority.ts';
import { testCa } from '../support/pem.ts';
import { silentAuthority } from '../support/silent-authority.ts';
import { appFixture, DAY_MS, effect, START, spec } from '../unit/app/app-fixture.ts';

const HOUR_MS = 3_600_000;
const ca = testCa();
const at = (days: number) => new Date(START.getTime() + days * DAY_MS);

const window = (startDays: number, endDays: number, explanationURL?: string): RenewalInfoAnswer => ({
  info: { suggestedWindow: { start: at(startDays), end: at(endDays) }, explanationURL },
  retryAfter: undefined,
});

class LimitedError extends KacmeError {
  readonly notBefore = at(0.5);
}

let app: Awaited<ReturnType<typeof appFixture>>;
let bundles: Bundles;
let information: RenewalInformation;
let answer: RenewalInfoAnswer | KacmeError | undefined;
let asked: string[];
beforeEach(async () => {
  app = await appFixture();
  bundles = new Bundles(3, app.deps);
  answer = undefined;
  asked = [];
  information = renewalInformation(app.deps);
});

/** With a CA that can only be asked for renewal information, without an account. */
function renewalInformation(deps: typeof app.deps): RenewalInformation {
  const authority: CertificateAuthority = {
    ...silentAuthority,
    renewalInfo: async (certID) => {
      asked.push(certID);
      if (answer instanceof KacmeError) throw answer;
      return answer;
    },
  };
  const issuer = {
    name: 'ca',
    directory: 'https://ca.test/dir',
    contact: [],
    termsOfServiceAgreed: true,
    profile: undefined,
    preferredChain: undefined,
    eab: undefined,
    caFile: undefined,
    proxy: undefined,
    timeoutMs: 1_000,
    limits: {},
    stagingFirst: undefined,
  };
  const world = {
    ...deps,
    hosts: {
      host: () => {
        throw new Error('no host is asked');
      },
      retain: () => {},
      close: async () => {},
    },
    directory: { hosts: () => Promise.reject(new Error('no host is discovered')) },
    connectCertificateAuthority: async () => authority,
    resolver: undefined,
    selfCheck: undefined,
    readForeignDirectory: () => Promise.reject(new Error('nothing is adopted')),
  };
  return new RenewalInformation(new Authorities({ ca: issuer }, world), bundles, deps);
}

async function activate(signal: AbortSignal, { days = 90, issuer = 'ca' } = {}) {
  const now = app.deps.clock.now();
  const { chainPem, keyPem } = ca.issue(['site.test'], {
    notBefore: now,
    notAfter: new Date(now.getTime() + days * DAY_MS),
  });
  const made = { chainPem, keyPem, origin: 'acme', issuer, reason: 'renewal due' } as const;
  await bundles.activate(spec(), made, {}, effect(signal));
}

async function check(signal: AbortSignal) {
  await information.check('site', effect(signal));
  return information.of('site', { signal });
}

const messages = (msg: string) => app.logged().filter((line) => line['msg'] === msg);

describe('check', () => {
  test('stores the moment that it draws in the window, and asks again no sooner than is due', async ({
    signal,
  }) => {
    await activate(signal);
    answer = window(50, 52, 'https://ca.test/why');
    const first = await check(signal);
    expect(first).toMatchObject({
      time: { renewAt: at(50), basis: 'suggested by the CA' },
      held: { renewAt: at(50), basis: expect.stringMatching(/^the CA's window, .*https:\/\/ca\.test\/why$/) },
      nextCheckAt: at(0.25),
    });
    expect(asked).toEqual([first?.bundle.certID]);
    expect(messages('suggested window')).toMatchObject([
      {
        certificate: 'site',
        issuer: 'ca',
        explanationURL: 'https://ca.test/why',
        renewAt: at(50).toISOString(),
      },
    ]);

    answer = window(40, 41);
    expect(await check(signal)).toEqual(first);
    expect(asked).toHaveLength(1);
  });

  test('a window without an explanation leaves a bundle held after a rollback, one with it ends the hold', async ({
    signal,
  }) => {
    await activate(signal);
    const bundle = (await bundles.active('site', { signal }))?.id ?? '';
    const key = holdRecord.key('site');
    const value = holdRecord.serialize({ bundle, until: at(60).toISOString() });
    await app.deps.store.transact({ conditions: [], puts: [{ key, value }], deletes: [] }, effect(signal));
    app.advance(2 * HOUR_MS);
    answer = window(-2, -1);
    expect(await check(signal)).toMatchObject({
      time: { renewAt: at(60), basis: 'rollback' },
      held: { heldUntil: at(60) },
    });
    app.advance(6 * HOUR_MS);
    answer = window(-2, -1, 'https://ca.test/revoked');
    expect(await check(signal)).toMatchObject({
      time: { basis: 'suggested by the CA' },
      held: { heldUntil: undefined },
    });
  });

  test('follows a window that has moved earlier within one poll, also after a restart', async ({
    signal,
  }) => {
    await activate(signal);
    answer = window(50, 52);
    await check(signal);
    app.advance(6 * HOUR_MS);
    information = renewalInformation(await app.restarted());
    answer = window(-2, -1, 'https://ca.test/revoked');
    const moved = await check(signal);
    expect(moved?.time.renewAt).toEqual(at(-2));
    expect(messages('suggested window').at(-1)).toMatchObject({
      before: { start: at(50).toISOString() },
      explanationURL: 'https://ca.test/revoked',
    });
  });

  test('does not renew at every pass for a CA that calls each new certificate due', async ({ signal }) => {
    await activate(signal, { days: 6 });
    answer = window(-2, -1);
    expect((await check(signal))?.time).toEqual({ renewAt: at(3), basis: 'share of the lifetime' });
    expect(messages('suggested window not followed')).toHaveLength(1);
    app.advance(HOUR_MS);
    expect((await check(signal))?.time.renewAt).toEqual(at(-2));
  });

  test('keeps what was last heard when the CA fails, and asks again when it may', async ({ signal }) => {
    await activate(signal);
    answer = window(50, 52);
    const before = await check(signal);
    app.advance(6 * HOUR_MS);
    answer = new KacmeError('ERR_ACME_MALFORMED', 'HTML', { retry: 'later' });
    const after = await check(signal);
    expect(after?.time).toEqual(before?.time);
    expect(after?.nextCheckAt).toEqual(new Date(at(0.25).getTime() + 60_000));
    app.advance(60_000);
    answer = new LimitedError('ERR_ACME_RATE_LIMITED', 'too many', { retry: 'later' });
    expect((await check(signal))?.nextCheckAt).toEqual(at(0.5));
    expect(messages('renewal information cannot be had').map(({ level }) => level)).toEqual([40, 20]);
  });

  test('asks again only after a day where the CA offers no renewal information', async ({ signal }) => {
    await activate(signal);
    expect(await check(signal)).toMatchObject({
      time: { basis: 'share of the lifetime' },
      nextCheckAt: at(1),
    });
  });

  test('asks nobody about a self-signed or expired bundle, nor about one of an issuer that is gone', async ({
    signal,
  }) => {
    await bundles.ensureSelfSigned(spec(), effect(signal));
    expect((await check(signal))?.nextCheckAt).toBeUndefined();
    await activate(signal, { issuer: 'gone' });
    expect((await check(signal))?.nextCheckAt).toBeUndefined();
    await activate(signal, { days: 1 });
    app.advance(DAY_MS);
    expect((await check(signal))?.nextCheckAt).toBeUndefined();
    expect(asked).toEqual([]);
  });
});

test('a new generation takes what was heard of the one before with it', async ({ signal }) => {
  await activate(signal);
  answer = window(50, 52);
  await check(signal);
  await activate(signal);
  expect(await loadRecord(app.deps.store, renewalInfoRecord, 'site', { signal })).toBeUndefined();
  const { time, nextCheckAt } = (await information.of('site', { signal })) ?? {};
  expect(time?.basis).toBe('share of the lifetime');
  expect(nextCheckAt).toEqual(START);
});

test('an answer about a bundle that was replaced meanwhile is of no meaning for the next one', async ({
  signal,
}) => {
  await activate(signal);
  answer = window(50, 52);
  await check(signal);
  const stale = await loadRecord(app.deps.store, renewalInfoRecord, 'site', { signal });
  if (stale === undefined) throw new Error('the answer is stored');
  await activate(signal);
  const key = renewalInfoRecord.key('site');
  const puts = [{ key, value: renewalInfoRecord.serialize(stale.value) }];
  await app.deps.store.transact({ conditions: [], puts, deletes: [] }, effect(signal));

  expect((await information.of('site', { signal }))?.time.basis).toBe('share of the lifetime');
  answer = window(60, 62);
  expect((await check(signal))?.time.renewAt).toEqual(at(60));
});
