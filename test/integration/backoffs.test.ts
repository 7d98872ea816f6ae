import { beforeEach, describe, expect, test } from 'vitest';
import { Backoffs, backoffState } from '../../src/app/backoffs.ts';
import { Bundles } from '../../src/app/bundles.ts';
import { type BackoffRecord, backoffRecord } from '../../src/app/records.ts';
import { describeBackoff } from '../../src/domain/backoff.ts';
import { KacmeError, type Retry } from '../../src/domain/errors.ts';
import type { CertificateSpec, IssuerSpec } from '../../src/domain/model.ts';
import { appFixture, effect, issuer, START, spec } from '../unit/app/app-fixture.ts';

const MINUTE_MS = 60_000;
const later = (ms: number) => new Date(START.getTime() + ms).toISOString();

let app: Awaited<ReturnType<typeof appFixture>>;
beforeEach(async () => {
  app = await appFixture();
});

const backoffs = (changed: Partial<IssuerSpec> = {}, deps: typeof app.deps = app.deps) =>
  new Backoffs({ ca: { ...issuer(), ...changed } }, new Bundles(3, deps), deps);

const refusal = (retry: Retry, problem: string) =>
  new KacmeError('ERR_ACME_PROBLEM', `refused: ${problem}`, { retry, problems: [problem], remedy: 'act' });

const noted = (error: unknown, options: { signal: AbortSignal }) =>
  backoffs().note(spec(), 'ca', error, app.deps.log, effect(options.signal));

async function found(
  of: CertificateSpec,
  { signal }: { signal: AbortSignal },
  by = backoffs(),
): Promise<BackoffRecord | undefined> {
  return (await by.of(of, { signal })).get('ca');
}

test('failures in a row wait longer and longer, in any process', async ({ signal }) => {
  await noted(refusal('later', 'serverInternal'), { signal });
  expect(await noted(refusal('later', 'serverInternal'), { signal })).toMatchObject({
    failures: 2,
    notBefore: later(10 * MINUTE_MS),
  });
  const restarted = await app.restarted();
  expect(await found(spec(), { signal }, backoffs({}, restarted))).toMatchObject({
    failures: 2,
    verdict: { permanent: false, fault: 'issuer' },
    lastFailure: { message: 'refused: serverInternal' },
  });
});

test('a permanent refusal waits long from the first time', async ({ signal }) => {
  expect(await noted(refusal('never', 'caa'), { signal })).toMatchObject({
    failures: 1,
    notBefore: later(100 * MINUTE_MS),
    permanent: true,
  });
});

test('what DNS says is looked at again every ten minutes, however often it has failed', async ({
  signal,
}) => {
  const denied = new KacmeError('ERR_CAA_DENIED', 'CAA denies it', { retry: 'never', remedy: 'permit it' });
  for (const failures of [1, 2, 3, 4])
    expect(await noted(denied, { signal })).toMatchObject({
      failures,
      notBefore: later(10 * MINUTE_MS),
      permanent: true,
    });
  const record = await found(spec(), { signal });
  if (record === undefined) throw new Error('nothing was noted');
  expect(describeBackoff(backoffState(record), 'site')).toBe(
    'an operator must act after 4 failed attempts: permit it; kacme looks again by itself, or run kacme renew site --force',
  );
});

describe('a back-off holds for the request that failed', () => {
  test.for<{ when: string; asked?: Partial<CertificateSpec>; by?: Partial<IssuerSpec>; holds: boolean }>([
    { when: 'nothing has changed', holds: true },
    { when: 'its names stand in another order', asked: { identifiers: ['b.test', 'a.test'] }, holds: true },
    { when: 'another issuer is preferred', asked: { issuers: ['other', 'ca'] }, holds: true },
    { when: 'a name is taken out', asked: { identifiers: ['a.test'] }, holds: false },
    { when: 'the key type is another', asked: { key: 'rsa-2048' }, holds: false },
    { when: 'the directory is another', by: { directory: 'https://other.test/dir' }, holds: false },
    { when: 'the profile is another', by: { profile: 'shortlived' }, holds: false },
    { when: 'the contact is another', by: { contact: ['mailto:ops@site.test'] }, holds: false },
  ])('$when: $holds', async ({ asked = {}, by = {}, holds }, { signal }) => {
    const failed = spec(['a.test', 'b.test']);
    await backoffs().note(failed, 'ca', refusal('never', 'caa'), app.deps.log, effect(signal));
    const held = await found({ ...failed, ...asked }, { signal }, backoffs(by));
    expect(held?.failures).toBe(holds ? 1 : undefined);
  });

  test('and another request begins to count anew', async ({ signal }) => {
    for (const _ of ['first', 'second']) await noted(refusal('later', 'dns'), { signal });
    const changed = spec(['other.test']);
    const again = await backoffs().note(changed, 'ca', refusal('later', 'dns'), app.deps.log, effect(signal));
    expect(again).toMatchObject({ failures: 1 });
    expect(await found(spec(), { signal })).toBeUndefined();
  });

  test('one from before requests were told apart holds for any', async ({ signal }) => {
    const lastFailure = { code: 'ERR_ACME_PROBLEM', message: 'refused', retry: 'never' };
    const data = { failures: 2, lastFailure, at: later(0), notBefore: later(MINUTE_MS) };
    await app.deps.store.transact(
      {
        conditions: [],
        puts: [{ key: backoffRecord.key('site', 'ca'), value: JSON.stringify({ schema: 1, data }) }],
        deletes: [],
      },
      effect(signal),
    );
    expect(await found(spec(['any.test']), { signal })).toMatchObject({
      failures: 2,
      verdict: { permanent: true },
    });
  });
});
