import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import { type CaFront, startCaFront } from '../support/faulty-ca.ts';
import type { Finished } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

const PROFILES = { classic: 'The same as ever', shortlived: 'https://ca.test/docs/profiles#shortlived' };

let lab: LabKacme;
let ca: CaFront;

beforeAll(async () => {
  lab = await labKacme({ bundlePem: selfSigned('site.test').bundlePem });
  ca = await startCaFront(lab.pebble);
});
afterEach(() => {
  ca.failWith(undefined);
  ca.rewrite('/dir', undefined);
  ca.rewrite('/order-plz', undefined);
});
afterAll(async () => {
  await ca.close();
  await lab.close();
});

/** From now on the CA's directory lists these; Pebble itself knows none. */
const offer = (profiles: Readonly<Record<string, string>>) =>
  ca.rewrite('/dir', (body) => {
    const directory = JSON.parse(body);
    return JSON.stringify({ ...directory, meta: { ...directory.meta, profiles } });
  });

const configure = (profiles: { issuer?: string; certificate?: string }) =>
  lab.kacme.overlay({
    issuers: { pebble: { directory: ca.directoryUrl, caFile: ca.caFile, profile: profiles.issuer } },
    certificates: { site: { profile: profiles.certificate } },
  });

const failureOf = ({ stdout }: Finished) => (JSON.parse(stdout) as Summary).certificates[0]?.failure;
const orders = () => ca.payloads('/order-plz') as { readonly profile?: string }[];
const renew = () => lab.kacme.run('renew', '--force', '--json');

describe('before anything is ordered', () => {
  test('a profile that the CA does not offer is refused with those that it does', async () => {
    offer(PROFILES);
    await configure({ issuer: 'shortlved' });
    const renewal = await renew();
    expect(renewal.status).toBe(1);
    expect(failureOf(renewal)).toEqual({
      code: 'ERR_ACME_PROFILE',
      retry: 'never',
      message:
        'the CA of pebble does not offer the profile shortlved: it offers classic ("The same as ever"), shortlived ("https://ca.test/docs/profiles#shortlived")',
      remedy: 'set issuers.pebble.profile to one of classic, shortlived, or remove it',
    });
    expect(new Set(ca.requests)).toEqual(new Set(['GET /dir']));
  });

  test('a CA without profiles is not asked for one', async () => {
    await configure({ certificate: 'shortlived' });
    const failure = failureOf(await renew());
    expect(failure).toMatchObject({ code: 'ERR_ACME_PROFILE', retry: 'never' });
    expect(failure?.message).toContain('its directory names no profiles');
    expect(failure?.remedy).toBe('remove certificates.site.profile');
    expect(new Set(ca.requests)).toEqual(new Set(['GET /dir']));
  });
});

describe('an order', () => {
  test.each([
    { when: "the issuer's profile", issuer: 'classic', certificate: undefined, sent: 'classic' },
    {
      when: "the certificate's own before the issuer's",
      issuer: 'classic',
      certificate: 'shortlived',
      sent: 'shortlived',
    },
    { when: 'none where none is configured', issuer: undefined, certificate: undefined, sent: undefined },
  ])('asks for $when', async ({ issuer, certificate, sent }) => {
    offer(PROFILES);
    await configure({ ...(issuer && { issuer }), ...(certificate && { certificate }) });
    expect(await renew()).toMatchObject({ status: 0 });
    expect(orders().at(-1)?.profile).toBe(sent);
  });

  test('that the CA refuses for its profile is not repeated until the next attempt', async () => {
    offer(PROFILES);
    await configure({ issuer: 'shortlived' });
    const before = orders().length;
    const type = 'urn:ietf:params:acme:error:invalidProfile';
    const detail = 'profile "shortlived" is not for this account';
    ca.failWith((request, response) => {
      request.resume();
      response.writeHead(400, { 'content-type': 'application/problem+json' });
      response.end(JSON.stringify({ type, detail }));
    }, '/order-plz');
    const failure = failureOf(await renew());
    expect(failure).toMatchObject({ code: 'ERR_ACME_PROFILE', retry: 'never' });
    expect(failure?.message).toContain(detail);
    expect(orders()).toHaveLength(before + 1);

    ca.failWith(undefined);
    expect(await renew()).toMatchObject({ status: 0 });
    expect(orders()).toHaveLength(before + 2);
  });
});

test('an order in flight for another profile is given up for one with the configured profile', async () => {
  offer(PROFILES);
  ca.rewrite('/order-plz', (body) => JSON.stringify({ ...JSON.parse(body), profile: 'classic' }));
  ca.rewrite('/my-order', (body) => JSON.stringify({ ...JSON.parse(body), profile: 'classic' }));
  await configure({ issuer: 'classic' });
  ca.failWith((_, response) => response.writeHead(500).end(), '/finalize-order');
  expect(await renew()).toMatchObject({ status: 1 });
  ca.failWith(undefined);
  ca.rewrite('/my-order', (body) =>
    JSON.stringify({ ...JSON.parse(body), profile: orders().at(-1)?.profile }),
  );

  await configure({ issuer: 'shortlived' });
  const before = orders().length;
  expect(await renew()).toMatchObject({ status: 0 });

  expect(orders().slice(before)).toMatchObject([{ profile: 'shortlived' }]);
  ca.rewrite('/my-order', undefined);
});
