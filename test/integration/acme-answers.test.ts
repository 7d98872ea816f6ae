import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import {
  answering,
  type CaFront,
  type CaRule,
  changing,
  cutShort,
  refusing,
  silence,
  silenceAfterHeaders,
  startCaFront,
  withFields,
} from '../support/faulty-ca.ts';
import { testCa } from '../support/pem.ts';
import { type AcmeLab, connect, effect, obtain, startAcmeLab } from './acme-fixture.ts';

let lab: AcmeLab;
let ca: CaFront;
beforeAll(async () => {
  lab = await startAcmeLab({ reuseAuthorizations: 0 });
  ca = await startCaFront(lab.pebble);
});
afterEach(() => ca.rules());
afterAll(async () => {
  await ca.close();
  await lab.close();
});

/** What an issuer with a new account meets on the way to a certificate. */
async function failureWith(...rules: readonly CaRule[]): Promise<unknown> {
  ca.rules(...rules);
  const issuer = { ...lab.issuer, directory: ca.directoryUrl, caFile: ca.caFile, timeoutMs: 1_000 };
  const { authority, close } = await connect(issuer);
  onTestFinished(close);
  const obtaining = obtain(lab, authority, ['one.test'], effect(AbortSignal.timeout(20_000)));
  return obtaining.then(
    () => 'a certificate',
    (error: unknown) => error,
  );
}

const without = (header: string) =>
  changing(({ headers }) => ({ headers: { ...headers, [header]: undefined } }));
const html = (status: number) => answering(status, '<h1>Hotel</h1>', { 'content-type': 'text/html' });
const noJson = 'no JSON document, but "<h1>Hotel</h1>"';
const upsideDown = changing(({ body }) => ({
  body: body
    .split(/(?<=-----END CERTIFICATE-----\n)\s*/)
    .reverse()
    .join(''),
}));

test.each<{ what: string; rule: CaRule; code?: string; says: string }>([
  {
    what: 'a directory in HTML',
    rule: { path: '/dir', fault: html(200) },
    says: `directory URL: not an ACME answer: ${noJson}`,
  },
  { what: 'an empty directory', rule: { path: '/dir', fault: answering(200) }, says: 'but an empty answer' },
  {
    what: 'a directory without newNonce',
    rule: { path: '/dir', fault: withFields({ newNonce: undefined }) },
    says: 'newNonce: ',
  },
  {
    what: 'a directory without newOrder',
    rule: { path: '/dir', fault: withFields({ newOrder: undefined }) },
    says: 'newOrder: ',
  },
  {
    what: 'a directory with a relative URL',
    rule: { path: '/dir', fault: withFields({ newAccount: '/sign-me-up' }) },
    says: 'newAccount: ',
  },
  {
    what: 'a directory with an http URL',
    rule: { path: '/dir', fault: withFields({ newOrder: 'http://ca.test/order' }) },
    says: 'newOrder http://ca.test/order: not an ACME answer: its URL, which the CA gave, does not begin with https:',
  },
  {
    what: 'a directory that moved',
    rule: { path: '/dir', fault: answering(301, '', { location: 'https://ca.test/directory' }) },
    says: 'it redirects (HTTP 301) to https://ca.test/directory',
  },
  {
    what: 'a redirect of newOrder',
    rule: { path: '/order-plz', fault: answering(302, '', { location: 'https://portal.test/' }) },
    says: 'it redirects (HTTP 302) to https://portal.test/',
  },
  {
    what: 'no nonce',
    rule: { path: '/nonce-plz', fault: without('replay-nonce') },
    says: 'it carries no usable Replay-Nonce',
  },
  {
    what: 'an account without Location',
    rule: { path: '/sign-me-up', fault: without('location') },
    says: 'newAccount URL: not an ACME answer: it carries no Location',
  },
  {
    what: 'an order without Location',
    rule: { path: '/order-plz', fault: without('location') },
    says: 'newOrder URL: not an ACME answer: it carries no Location',
  },
  {
    what: 'an order without authorizations',
    rule: { path: '/order-plz', fault: withFields({ authorizations: [] }) },
    says: 'authorizations: ',
  },
  {
    what: 'an order in truncated JSON',
    rule: { path: '/order-plz', fault: changing(({ body }) => ({ body: body.slice(0, 20) })) },
    says: 'no JSON document, but "{',
  },
  {
    what: 'an order that is cut off',
    rule: { path: '/order-plz', fault: cutShort },
    says: 'newOrder URL: not an ACME answer: it breaks off',
  },
  {
    what: 'an order of endless length',
    rule: { path: '/order-plz', fault: answering(201, 'x'.repeat(2_000_000), { location: '/order/1' }) },
    says: 'larger than any ACME server sends',
  },
  {
    what: 'an authorization in HTML',
    rule: { path: '/authZ/', fault: html(200) },
    says: `authorization URL: not an ACME answer: ${noJson}`,
  },
  {
    what: 'a challenge that cannot be taken',
    rule: { path: '/chalZ/', fault: html(404) },
    says: 'HTTP 404 without a problem document, but "<h1>Hotel</h1>"',
  },
  {
    what: 'HTML for a finalized order',
    rule: { path: '/finalize-order/', fault: html(200) },
    says: `finalize URL: not an ACME answer: ${noJson}`,
  },
  {
    what: 'HTML in place of the chain',
    rule: { path: '/certZ/', fault: html(200) },
    says: 'certificate URL: not an ACME answer: no PEM chain, but "<h1>Hotel</h1>"',
  },
  {
    what: 'a chain that is cut off',
    rule: { path: '/certZ/', fault: cutShort },
    says: 'certificate URL: not an ACME answer: it breaks off',
  },
  {
    what: 'a chain that ends in the middle',
    rule: { path: '/certZ/', fault: changing(({ body }) => ({ body: body.slice(0, 500) })) },
    says: 'the PEM chain in it breaks off',
  },
  {
    what: 'a chain in the wrong order',
    rule: { path: '/certZ/', fault: upsideDown },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: 'it begins with the certificate of a CA, not with the leaf',
  },
  {
    what: 'a chain with a gap',
    rule: {
      path: '/certZ/',
      fault: changing(({ body }) => ({
        body: body.replace(/(?<=END CERTIFICATE-----\n)[\s\S]*/, testCa().certPem),
      })),
    },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: 'certificate 2 did not issue certificate 1',
  },
  {
    what: 'HTTP 500 with a problem document',
    rule: { path: '/order-plz', fault: refusing(500, 'serverInternal') },
    code: 'ERR_ACME_PROBLEM',
    says: 'with HTTP 500, since it failed inside: the CA says so (serverInternal)',
  },
  {
    what: 'HTTP 500 without a problem document',
    rule: { path: '/order-plz', fault: html(500) },
    code: 'ERR_ACME_PROBLEM',
    says: 'with HTTP 500: no problem document, but "<h1>Hotel</h1>"',
  },
  {
    what: 'HTTP 429 without a problem document, and a Retry-After that means nothing',
    rule: { path: '/order-plz', fault: answering(429, 'slow down', { 'retry-after': 'soon' }) },
    code: 'ERR_ACME_RATE_LIMITED',
    says: 'no problem document, but "slow down" (http429). kacme tries again after ',
  },
  {
    what: 'silence',
    rule: { path: '/order-plz', fault: silence },
    code: 'ERR_ACME_TIMEOUT',
    says: 'newOrder URL: no complete answer within 1000 ms',
  },
  {
    what: 'silence after the headers',
    rule: { path: '/order-plz', fault: silenceAfterHeaders },
    code: 'ERR_ACME_TIMEOUT',
    says: 'newOrder URL: no complete answer within 1000 ms',
  },
])('$what is told for what it is, and may pass', async ({ rule, code = 'ERR_ACME_MALFORMED', says }) => {
  const failure = await failureWith(rule);
  expect(failure).toMatchObject({ code, retry: 'later', remedy: expect.stringMatching(/\w/) });
  const { message } = failure as Error;
  expect(message.replaceAll(new RegExp(`${new URL(ca.directoryUrl).origin}[^\\s:]*`, 'g'), 'URL')).toContain(
    says,
  );
});

test('one bad answer while the CA is at work costs no order', async ({ signal }) => {
  ca.rules(
    { path: '/my-order/', fault: html(502), times: 1 },
    { path: '/authZ/', fault: refusing(500, 'serverInternal'), times: 0 },
  );
  const issuer = { ...lab.issuer, directory: ca.directoryUrl, caFile: ca.caFile };
  const { authority, close } = await connect(issuer);
  onTestFinished(close);
  const { chainPem } = await obtain(lab, authority, ['one.test'], effect(signal));
  expect(chainPem).toContain('BEGIN CERTIFICATE');
});

test('an order takes few requests over few connections, each with the User-Agent', async ({ signal }) => {
  const [before, connectionsBefore] = [ca.requests.length, ca.connections];
  const issuer = { ...lab.issuer, directory: ca.directoryUrl, caFile: ca.caFile };
  const { authority, close } = await connect(issuer);
  onTestFinished(close);

  await authority.ensureAccount(effect(signal));
  // Directory, nonce, account: the HEAD for the nonce does not end the connection.
  expect(ca.requests.length - before).toBe(3);
  expect(ca.connections - connectionsBefore).toBe(1);
  await obtain(lab, authority, ['one.test', 'two.test'], effect(signal));

  const requests = ca.requests.slice(before);
  const looks = requests.filter((request) => /^POST \/(?:authZ|my-order)\//.test(request)).length;
  // Two authorizations are read before and after, the order twice; looks that came too early are not counted.
  expect(requests.length - Math.max(0, looks - 6)).toBeLessThanOrEqual(16);
  // One more for the names that are validated side by side.
  expect(ca.connections - connectionsBefore).toBe(2);
  const userAgents = new Set(ca.userAgents.slice(before));
  expect([...userAgents]).toEqual([expect.stringMatching(/^kacme\/\d+\.\d+\.\d+ \(node \d+/)]);
});
