import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { json } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import { startFaultyDns } from '../support/dns-server.ts';
import { type CaFront, startCaFront } from '../support/faulty-ca.ts';
import { type Finished, freeEndpoint } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;
let ca: CaFront;
let issuer: Readonly<Record<string, unknown>>;

beforeAll(async () => {
  lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    certificates: { site: ['site.test'], sub: ['www.sub.test'] },
  });
  ca = await startCaFront(lab.pebble);
  const pebbleDirectory = await directoryOf(ca);
  // Pebble does not tell by which names CAA records know it.
  const directory = { ...pebbleDirectory, meta: { ...pebbleDirectory.meta, caaIdentities: ['ca.test'] } };
  ca.failWith((_, response) => response.end(JSON.stringify(directory)), '/dir');
  issuer = { directory: ca.directoryUrl, caFile: ca.caFile };
  await lab.kacme.overlay({ issuers: { pebble: issuer } });
  expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
});
afterEach(() => lab.kacme.overlay({ issuers: { pebble: issuer } }));
afterAll(async () => {
  await ca.close();
  await lab.close();
});

async function directoryOf({ directoryUrl, caFile }: CaFront): Promise<{ readonly meta: object }> {
  const trusted = await readFile(caFile, 'utf8');
  return new Promise((resolve, reject) => {
    request(directoryUrl, { ca: trusted, agent: false }, (response) => {
      json(response).then((document) => resolve(document as { meta: object }), reject);
    })
      .on('error', reject)
      .end();
  });
}

const failureOf = ({ stdout }: Finished) => (JSON.parse(stdout) as Summary).certificates[0]?.failure;
const ordersAsked = () => ca.requests.filter((line) => line.includes('order'));

test('CAA records of a parent that name another CA stop the order, for good, and status says what to add', async () => {
  await lab.pebble.setCaa('sub.test', [{ tag: 'issue', value: 'other.test' }]);
  expect(failureOf(await lab.kacme.run('renew', 'sub', '--force', '--json'))).toMatchObject({
    code: 'ERR_CAA_DENIED',
    retry: 'never',
    message: expect.stringMatching(
      /www\.sub\.test: no CAA record of sub\.test permits it: CAA 0 issue "other\.test"/,
    ),
    remedy: expect.stringContaining('add the record CAA 0 issue "ca.test" at sub.test'),
  });
  expect(ordersAsked()).toEqual([]);
  expect((await lab.kacme.run('status')).stdout).toContain(
    'add the record CAA 0 issue "ca.test" at sub.test',
  );

  await lab.pebble.setCaa('sub.test', [
    { tag: 'issue', value: 'other.test' },
    { tag: 'issue', value: 'ca.test; validationmethods=http-01' },
  ]);
  expect(await lab.kacme.run('renew', 'sub', '--force')).toMatchObject({ status: 0 });
});

test('CAA records for another account are told with the account that kacme has', async () => {
  const uri = 'https://ca.test/acct/other';
  await lab.pebble.setCaa('site.test', [{ tag: 'issue', value: `ca.test; accounturi=${uri}` }]);
  const before = ordersAsked().length;
  // Whether the account is registered before or only now.
  expect(failureOf(await lab.kacme.run('renew', 'site', '--force', '--json'))).toMatchObject({
    code: 'ERR_CAA_DENIED',
    message: expect.stringMatching(/permits another account than https:\/\/.*\/my-account\//),
  });
  expect(ordersAsked()).toHaveLength(before);
  await lab.pebble.setCaa('site.test', []);
});

test('a name behind an alias is found', async () => {
  await lab.pebble.setAlias('site.test', 'elsewhere.test');
  onTestFinished(() => lab.pebble.setAlias('site.test', undefined));
  expect(await lab.kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });
});

test('a name that does not exist is found before the CA is asked', async () => {
  const dns = await startFaultyDns(() => ({ code: 3 }));
  onTestFinished(dns.close);
  const server = `${dns.listen.host}:${dns.listen.port}`;
  await lab.kacme.overlay({ issuers: { pebble: issuer }, challenge: { resolvers: [server] } });
  const before = ca.requests.length;
  expect(failureOf(await lab.kacme.run('renew', 'site', '--force', '--json'))).toMatchObject({
    code: 'ERR_DNS_NO_SUCH_NAME',
    message: `site.test does not exist in DNS: ${server} answered NXDOMAIN. The CA was not asked`,
  });
  expect(ca.requests).toHaveLength(before);
});

test('resolvers that fail are no obstacle where the challenge is fetched via an address', async () => {
  const server = await freeEndpoint();
  await lab.kacme.overlay({ issuers: { pebble: issuer }, challenge: { resolvers: [server] } });
  const renewal = await lab.kacme.run('renew', 'site', '--force', '--log-level', 'warn');
  expect(renewal).toMatchObject({ status: 0 });
  expect(renewal.stderr).toContain('challenge path not tested in full');
  expect(renewal.stderr).toContain('CAA not determined');
});

test('without resolvers nothing of DNS is looked at', async () => {
  await lab.pebble.setCaa('site.test', [{ tag: 'issue', value: ';' }]);
  onTestFinished(() => lab.pebble.setCaa('site.test', []));
  await lab.kacme.overlay({ issuers: { pebble: issuer }, challenge: { resolvers: 'off' } });
  // Pebble does not look at CAA itself.
  expect(await lab.kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });
});
