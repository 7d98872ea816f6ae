import { expect, onTestFinished, test } from 'vitest';
import type { RenewalCalendar } from '../../src/domain/renewal-calendar.ts';
import type { Status, Summary } from '../../src/domain/status.ts';
import { type CaFault, startCaFront } from '../support/faulty-ca.ts';
import type { Finished } from '../support/kacme.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { loopbackAddress } from '../support/net.ts';
import { selfSigned } from '../support/pem.ts';

const HOUR_MS = 3_600_000;

const rateLimited: CaFault = (_, response) =>
  response.writeHead(429, { 'content-type': 'application/problem+json', 'retry-after': '7200' }).end(
    JSON.stringify({
      type: 'urn:ietf:params:acme:error:rateLimited',
      detail: 'too many new orders recently',
    }),
  );

/** Two certificates of one account at a CA behind a front that records what it is asked. */
async function limitLab(limits?: Readonly<Record<string, unknown>>) {
  const lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    certificates: { site: ['site.test'], other: ['other.test'] },
  });
  onTestFinished(lab.close);
  const ca = await startCaFront(lab.pebble);
  onTestFinished(ca.close);
  const issuer = { directory: ca.directoryUrl, caFile: ca.caFile, ...(limits && { limits }) };
  await lab.kacme.overlay({ issuers: { pebble: issuer } });
  expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
  const orders = () => ca.requests.filter((request) => request === 'POST /order-plz').length;
  // Renewal information is asked for by GET, whenever it is due.
  const asked = () => ca.requests.filter((request) => request.startsWith('POST ')).length;
  return { ...lab, ca, issuer, orders, asked };
}

const failureIn = ({ stdout }: Finished) => (JSON.parse(stdout) as Summary).certificates[0]?.failure;
const failureOf = ({ certificates }: Status, wanted: string) =>
  certificates.find(({ name }) => name === wanted)?.lastFailure;

test('the order beyond a limit never reaches the CA, in any process, and status says until when', async () => {
  const { kacme, orders, asked } = await limitLab({ ordersPerAccount: { count: 2, per: '1h' } });
  const beganMs = Date.now();
  for (const _ of ['first', 'second'])
    expect(await kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });
  expect(orders()).toBe(2);
  const before = asked();

  const third = await kacme.run('renew', 'site', '--force', '--json');
  expect(third.status).toBe(1);
  expect(failureIn(third)).toMatchObject({
    code: 'ERR_RATE_LIMIT_NEAR',
    message: expect.stringMatching(/orders of account pebble: the limit of 2 is used up until 2\d{3}-/),
    remedy: expect.stringContaining('--force cannot override'),
  });
  // Another certificate of the same account would meet the limit as well, and a dry run leaves no trace of it.
  const dry = await kacme.run('renew', 'other', '--dry-run', '--json');
  expect(dry.status).toBe(0);
  const [planned] = (JSON.parse(dry.stdout) as Summary).certificates;
  expect(planned).toMatchObject({
    action: 'kept',
    reason: expect.stringMatching(
      /^would wait until 2\d{3}-.*: only a self-signed certificate held; orders of account pebble: the limit of 2 is used up/,
    ),
  });
  expect(failureOf(await kacme.status(), 'other')).toBeUndefined();

  // The service finds out about the other certificate by itself, and remembers it at the next start.
  for (const [message, fields] of [
    ['issuance put off', { certificate: 'other' }],
    ['renewal decided', { certificate: 'other', action: 'wait' }],
  ] as const) {
    const service = await kacme.serve();
    await service.logged(message, fields);
    const forced = await kacme.run('renew', 'site', '--force', '--json');
    expect(failureIn(forced)).toMatchObject({ code: 'ERR_RATE_LIMIT_NEAR' });
    const failure = failureOf(await kacme.status(), 'site');
    expect(failure).toMatchObject({ code: 'ERR_RATE_LIMIT_NEAR', failures: 1 });
    const untilMs = Date.parse(failure?.notBefore ?? '');
    expect(untilMs).toBeGreaterThan(beganMs + HOUR_MS / 2);
    expect(untilMs).toBeLessThan(Date.now() + HOUR_MS / 2);
    expect(failure?.message).toContain(failure?.notBefore);
    await service.stop();
  }
  expect(asked()).toBe(before);
});

test('a Retry-After of the CA holds for another certificate of the same account', async () => {
  const { kacme, ca, orders, asked } = await limitLab();
  ca.failWith(rateLimited, '/order-plz');
  const refused = await kacme.run('renew', 'site', '--json');
  expect(failureIn(refused)).toMatchObject({ code: 'ERR_ACME_RATE_LIMITED' });
  ca.failWith(undefined);
  const before = asked();

  const other = await kacme.run('renew', 'other', '--force', '--json');
  expect(other.status).toBe(1);
  expect(failureIn(other)).toMatchObject({
    code: 'ERR_RATE_LIMIT_NEAR',
    message: expect.stringMatching(/the CA said to wait until 2\d{3}-.* with pebble/),
  });
  expect(orders()).toBe(1);
  expect(asked()).toBe(before);
  const notBefore = failureOf(await kacme.status(), 'other')?.notBefore ?? '';
  expect(Date.parse(notBefore)).toBeGreaterThan(Date.now() + HOUR_MS);
});

test('an identifier that the CA could not validate is not tried again beyond the limit of failures', async () => {
  const { kacme, pebble, issuer, asked } = await limitLab({
    failedAuthorizations: { count: 1, per: '1h' },
  });
  await kacme.overlay({ issuers: { pebble: issuer }, challenge: { selfCheck: 'off' } });
  // Nothing answers there.
  await pebble.setAddresses('other.test', [loopbackAddress()]);
  const failed = await kacme.run('renew', 'other', '--json');
  expect(failureIn(failed)).toMatchObject({
    code: 'ERR_ACME_AUTHORIZATION',
    remedy: expect.stringMatching(/^[\w.]+: (?:open port 80|let every name)/),
  });
  const before = asked();

  const again = await kacme.run('renew', 'other', '--force', '--json');
  expect(failureIn(again)).toMatchObject({
    code: 'ERR_RATE_LIMIT_NEAR',
    message: expect.stringContaining('failed authorizations of other.test for pebble: the limit of 1'),
  });
  expect(asked()).toBe(before);
  expect(await kacme.run('renew', 'site')).toMatchObject({ status: 0 });
});

test('the plan is the same with and without a running service, and changes nothing', async () => {
  const { kacme, asked } = await limitLab({ certificatesPerSet: { count: 5, per: '7d' } });
  expect(await kacme.run('renew')).toMatchObject({ status: 0 });
  const before = asked();
  const planned = async () => {
    const { status, stdout } = await kacme.run('plan', '--days', '365', '--json');
    expect(status).toBe(0);
    return JSON.parse(stdout) as RenewalCalendar;
  };
  const alone = await planned();
  expect(alone.issuers).toMatchObject([{ issuer: 'pebble', expiring: [], unissued: [], waits: [] }]);
  const service = await kacme.serve();
  const asService = await planned();
  await service.stop();
  expect({ ...asService, at: '' }).toEqual({ ...alone, at: '' });
  expect(asked()).toBe(before);
  const { stdout } = await kacme.run('plan', '--days', '30');
  expect(stdout).toMatch(/^plan for 30 days from /);
  expect(stdout).toMatch(/pebble +certificatesPerSet +5 +1 \((?:site|other)\.test /);
});
