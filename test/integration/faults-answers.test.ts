import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import {
  answering,
  type CaFront,
  type CaRule,
  changing,
  refusing,
  startCaFront,
  withFields,
} from '../support/faulty-ca.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { type CertificateOptions, selfSigned, testCa } from '../support/pem.ts';

const DAY_MS = 86_400_000;
const SITE = 'site.test';

let lab: LabKacme;
let ca: CaFront;
beforeAll(async () => {
  lab = await labKacme({
    bundlePem: selfSigned(SITE).bundlePem,
    certificates: { site: [SITE, 'www.site.test'] },
  });
  ca = await startCaFront(lab.pebble);
  await lab.kacme.overlay({ issuers: { pebble: { directory: ca.directoryUrl, caFile: ca.caFile } } });
  expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
  expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
});
afterEach(() => ca.rules());
afterAll(async () => {
  await ca.close();
  await lab.close();
});

const hostFile = () => readFile(lab.fleet.hosts[0]?.haproxy.certPath ?? '', 'utf8');

/** Renews by force and shows what an operator reads in `kacme status` after it; what is served and held stays. */
async function statusAfterRenewal(...rules: readonly CaRule[]) {
  const before = {
    held: (await lab.kacme.status()).certificates,
    file: await hostFile(),
    served: await lab.served(),
  };
  ca.rules(...rules);
  const { status, stdout } = await lab.kacme.run('renew', '--force', '--json');
  expect(status).toBe(1);
  const failure = (JSON.parse(stdout) as Summary).certificates[0]?.failure;
  const [certificate] = (await lab.kacme.status()).certificates;
  const [held] = before.held;
  expect(certificate).toMatchObject({
    state: 'valid',
    generation: held?.generation,
    fingerprint256: held?.fingerprint256,
    lastFailure: { code: failure?.code, message: failure?.message },
  });
  expect(await hostFile()).toBe(before.file);
  expect(await lab.served()).toEqual(before.served);
  const shown = await lab.kacme.run('status');
  return { code: failure?.code, text: shown.stdout.replaceAll(/\s+/g, ' ') };
}

/** A chain of another CA about the key of the one that was issued. */
const chain = (names: readonly string[], options: CertificateOptions = {}) =>
  changing(({ body }) => ({
    body: testCa().issue(names, { key: new X509Certificate(body).publicKey, ...options }).chainPem,
  }));

const names = [SITE, 'www.site.test'];

test.each<{ what: string; rule: CaRule; code: string; says: RegExp }>([
  {
    what: 'no certificate URL in a valid order',
    rule: {
      path: /^\/(?:my-order|finalize-order)\//,
      fault: withFields({ status: 'valid', certificate: undefined }),
    },
    code: 'ERR_ACME_ORDER',
    says: /is valid: but the CA names no certificate for it/,
  },
  {
    what: 'a page in place of the chain',
    rule: { path: '/certZ/', fault: answering(200, '<h1>Hotel</h1>') },
    code: 'ERR_ACME_MALFORMED',
    says: /no PEM chain, but "<h1>Hotel<\/h1>"/,
  },
  {
    what: 'a chain for another key',
    rule: { path: '/certZ/', fault: answering(200, testCa().issue(names).chainPem) },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: /is not usable: .*key/,
  },
  {
    what: 'a certificate without one of the names',
    rule: { path: '/certZ/', fault: chain([SITE]) },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: /it does not cover www\.site\.test/,
  },
  {
    what: 'a certificate for other names',
    rule: { path: '/certZ/', fault: chain(['other.test']) },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: /it does not cover site\.test, www\.site\.test/,
  },
  {
    what: 'a certificate that has expired',
    rule: {
      path: '/certZ/',
      fault: chain(names, {
        notBefore: new Date(Date.now() - 90 * DAY_MS),
        notAfter: new Date(Date.now() - DAY_MS),
      }),
    },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: /it expired at \d{4}-/,
  },
  {
    what: 'a certificate of the future',
    rule: { path: '/certZ/', fault: chain(names, { notBefore: new Date(Date.now() + DAY_MS) }) },
    code: 'ERR_CERTIFICATE_UNUSABLE',
    says: /it is not valid before \d{4}-.*clock/,
  },
])('$what leaves what is served and held, and status says so', async ({ rule, code, says }) => {
  const shown = await statusAfterRenewal(rule);
  expect(shown.code).toBe(code);
  expect(shown.text).toMatch(says);
});

const sub = (type: string, detail: string, value: string) => ({
  type: `urn:ietf:params:acme:error:${type}`,
  detail,
  identifier: { type: 'dns', value },
});

test.each<{ what: string; fault: CaRule['fault']; code: string; says: readonly RegExp[] }>([
  {
    what: 'changed terms of service',
    fault: refusing(403, 'userActionRequired', {
      headers: { link: '<https://ca.test/terms-2027.pdf>;rel="terms-of-service"' },
      instance: 'https://ca.test/agree?account=7',
    }),
    code: 'ERR_ACME_TERMS',
    says: [
      /newOrder https:\S+ refused by the CA with HTTP 403, since somebody must agree to something first/,
      /read the CA's terms of service, https:\/\/ca\.test\/terms-2027\.pdf, then agree to what the CA asks for at https:\/\/ca\.test\/agree\?account=7, then run kacme renew/,
    ],
  },
  {
    what: 'problems of several names',
    fault: refusing(403, 'compound', {
      subproblems: [
        sub('caa', 'CAA of site.test allows other.example', SITE),
        sub('rejectedIdentifier', 'on a list', 'www.site.test'),
      ],
    }),
    code: 'ERR_ACME_PROBLEM',
    says: [
      /several things are wrong: the CA says so \(compound\); site\.test: CAA of site\.test allows other\.example \(caa\); www\.site\.test: on a list/,
      /site\.test: allow this CA in the CAA records .*; www\.site\.test: correct or remove the identifiers/,
    ],
  },
  {
    what: 'an account that must be bound to an external one',
    fault: refusing(403, 'externalAccountRequired'),
    code: 'ERR_ACME_PROBLEM',
    says: [/it registers accounts only for customers it knows/, /set the issuer's eab \(keyId and hmacKey\)/],
  },
  {
    what: 'a rate limit',
    fault: refusing(429, 'rateLimited', { headers: { 'retry-after': '1' } }),
    code: 'ERR_ACME_RATE_LIMITED',
    says: [/a limit of it is reached: the CA says so/, /kacme tries again after \d{4}-/],
  },
])('$what: status tells what is wrong and what to do', async ({ fault, code, says }) => {
  const shown = await statusAfterRenewal({ path: '/order-plz', fault });
  expect(shown.code).toBe(code);
  for (const words of says) expect(shown.text).toMatch(words);
});
