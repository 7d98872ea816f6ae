import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { certIDOfBundle } from '../../src/app/records.ts';
import { type CaFault, type CaFront, startCaFront } from '../support/faulty-ca.ts';
import { pebbleCanReplace } from '../support/pebble.ts';
import {
  type AcmeLab,
  type Connection,
  connect,
  effect,
  issuerSpec,
  obtain,
  startAcmeLab,
} from './acme-fixture.ts';

const DAY_MS = 86_400_000;

let lab: AcmeLab;
let front: CaFront;
let connection: Connection;
beforeAll(async () => {
  lab = await startAcmeLab({ renewalInfo: true, lifetimeSeconds: (90 * DAY_MS) / 1_000 });
  front = await startCaFront(lab.pebble);
  connection = await connect(issuerSpec(front.directoryUrl, { caFile: front.caFile, timeoutMs: 1_000 }));
});
afterEach(() => front.failWith(undefined));
afterAll(async () => {
  await connection.close();
  await front.close();
  await lab.close();
});

/** Issues, and names what came. */
async function issued(name: string, signal: AbortSignal): Promise<string> {
  const { chainPem } = await obtain(lab, connection.authority, [name], effect(signal));
  if (!pebbleCanReplace(chainPem)) return issued(name, signal);
  const certID = certIDOfBundle({ origin: 'acme', chainPem });
  if (certID === undefined) throw new Error('Pebble names its key in what it issues');
  return certID;
}

const RENEWAL_INFO = '/draft-ietf-acme-ari-03/renewalInfo/';
const refusal =
  (status: number, headers: Readonly<Record<string, string>> = {}, body = ''): CaFault =>
  (_, response) =>
    response.writeHead(status, headers).end(body);

describe('renewal information', () => {
  test('is a window around the last third, by an unsigned request that is logged and counted', async ({
    signal,
  }) => {
    const certID = await issued('window.test', signal);
    const before = connection.results.length;
    const answer = await connection.authority.renewalInfo(certID, { signal });
    const window = answer?.info.suggestedWindow;
    expect(Number(window?.start) - Date.now()).toBeGreaterThan(50 * DAY_MS);
    expect(Number(window?.end) - Date.now()).toBeLessThan(70 * DAY_MS);
    expect(Number(answer?.retryAfter)).toBeGreaterThan(Date.now());
    expect(connection.requests.at(-1)).toMatchObject({
      resource: 'renewalInfo',
      method: 'GET',
      status: 200,
      url: expect.stringContaining(`${RENEWAL_INFO}${certID}`),
    });
    expect(connection.results.slice(before)).toEqual(['ok']);
  });

  test('needs no account', async ({ signal }) => {
    const certID = await issued('stranger.test', signal);
    const stranger = await connect(lab.issuer);
    onTestFinished(stranger.close);
    expect(await stranger.authority.renewalInfo(certID, { signal })).toBeDefined();
    expect(stranger.requests.map(({ resource }) => resource)).toEqual(['directory', 'renewalInfo']);
  });

  test('of a certificate that the CA does not know is refused', async ({ signal }) => {
    await expect(connection.authority.renewalInfo('AAAA.AAAA', { signal })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_ACME_(?:PROBLEM|MALFORMED)$/),
    });
  });

  test.for([
    {
      when: '429 with seconds',
      fault: refusal(429, { 'retry-after': '120' }),
      code: 'ERR_ACME_RATE_LIMITED',
    },
    {
      when: '503 with an HTTP date',
      fault: refusal(503, { 'retry-after': new Date(Date.now() + 120_000).toUTCString() }),
      code: 'ERR_ACME_PROBLEM',
    },
    { when: 'HTML', fault: refusal(200, {}, '<h1>Hotel</h1>'), code: 'ERR_ACME_MALFORMED' },
    {
      when: 'a window that ends before it starts',
      fault: refusal(
        200,
        {},
        '{"suggestedWindow":{"start":"2026-06-02T00:00:00Z","end":"2026-06-01T00:00:00Z"}}',
      ),
      code: 'ERR_ACME_MALFORMED',
    },
    { when: 'nothing at all', fault: () => {}, code: 'ERR_ACME_TIMEOUT' },
  ] as const)('answered with $when is $code', async ({ when, fault, code }, { signal }) => {
    front.failWith(fault, RENEWAL_INFO);
    const asked = connection.authority.renewalInfo('AAAA.AAAA', { signal });
    await expect(asked).rejects.toMatchObject({ code, retry: 'later' });
    if (!/seconds|date/.test(when)) return;
    const { notBefore } = await asked.catch((error) => error);
    expect(Math.abs(notBefore - Date.now() - 120_000)).toBeLessThan(10_000);
  });

  test('is undefined at a CA that offers none', async ({ signal }) => {
    const older = await startAcmeLab();
    onTestFinished(older.close);
    const asked = await connect(older.issuer);
    onTestFinished(asked.close);
    expect(await asked.authority.renewalInfo('AAAA.AAAA', { signal })).toBeUndefined();
    await asked.authority.ensureAccount(effect(signal));
    const order = await asked.authority.newOrder(['any.test'], { ...effect(signal), replaces: 'AAAA.AAAA' });
    expect(order.replaces).toBeUndefined();
  });
});

describe('replaces', () => {
  const orders = () => connection.requests.filter(({ resource }) => resource === 'newOrder');

  test('is accepted once; the CA then calls the certificate replaced, and the order goes without', async ({
    signal,
  }) => {
    const replaces = await issued('renewed.test', signal);
    const options = { ...effect(signal), replaces };
    const before = orders().length;
    const first = (await obtain(lab, connection.authority, ['renewed.test'], options)).order;
    expect(first).toMatchObject({ status: 'valid', replaces });
    expect(orders()).toHaveLength(before + 1);

    const second = await connection.authority.newOrder(['renewed.test'], options);
    expect(second.replaces).toBeUndefined();
    expect(second.url).not.toBe(first.url);
    expect(orders().slice(before + 1)).toMatchObject([
      { result: 'ERR_ACME_PROBLEM', reason: expect.stringMatching(/replace/) },
      { result: 'ok' },
    ]);
  });

  test.for([
    { status: 409, type: 'alreadyReplaced' },
    { status: 404, type: 'malformed' },
    { status: 403, type: 'unauthorized' },
    { status: 500, type: 'serverInternal' },
  ])('refused with $status $type is left out of a second order', async ({ status, type }, { signal }) => {
    const replaces = await issued(`${type.toLowerCase()}.test`, signal);
    const problem = JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail: 'no' });
    front.rules({
      path: '/order-plz',
      fault: refusal(status, { 'content-type': 'application/problem+json' }, problem),
      times: 1,
    });
    const order = await connection.authority.newOrder([`${type.toLowerCase()}.test`], {
      ...effect(signal),
      replaces,
    });
    expect(order.replaces).toBeUndefined();
    expect(['pending', 'ready']).toContain(order.status);
  });

  test.for([
    { status: 429, code: 'ERR_ACME_RATE_LIMITED' },
    { status: 500, code: 'ERR_ACME_PROBLEM' },
  ])('is no reason to order again after $status', async ({ status, code }, { signal }) => {
    const replaces = await issued('limited.test', signal);
    const before = orders().length;
    front.failWith(refusal(status), '/order-plz');
    const ordering = connection.authority.newOrder(['limited.test'], { ...effect(signal), replaces });
    await expect(ordering).rejects.toMatchObject({ code });
    expect(orders()).toHaveLength(before + 1);
  });
});
