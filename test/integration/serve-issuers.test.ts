import { expect, test } from 'vitest';
import type { Status } from '../../src/domain/status.ts';
import type { CaFault } from '../support/faulty-ca.ts';
import { freeEndpoint } from '../support/kacme.ts';
import { NEW_ORDER, ordersAt, twoIssuers } from '../support/two-issuers.ts';

const refusedBy =
  (type: string): CaFault =>
  (_, response) =>
    response
      .writeHead(403, { 'content-type': 'application/problem+json' })
      .end(JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail: `not with this CA` }));

const site = ({ certificates }: Status) => certificates.find(({ name }) => name === 'site');

test('a refusal for good turns to the next issuer at once, and a forced renewal asks the first again', async () => {
  const { kacme, first, second } = await twoIssuers();
  first.failWith(refusedBy('caa'), NEW_ORDER);
  const service = await kacme.serve();
  await service.logged('issuance failed', { issuer: 'pebble', permanent: true });
  await service.logged('issuance finished', { issuer: 'second' });
  expect(ordersAt(first)).toBe(1);
  expect(ordersAt(second)).toBe(1);
  const issued = site(await kacme.settled());
  expect(issued?.issuer).toBe('second');
  expect(issued?.lastFailure).toBeUndefined();

  first.failWith(undefined);
  const renewal = await kacme.run('renew', 'site', '--force');
  expect(renewal).toMatchObject({ status: 0 });
  expect(renewal.stderr + renewal.stdout).toMatch(/overriding the back-off of pebble until 2\d{3}-/);
  expect(ordersAt(second)).toBe(1);
  expect(site(await kacme.settled())).toMatchObject({ issuer: 'pebble' });
});

test('an issuer that keeps being down is passed over', async () => {
  const { kacme, first, second } = await twoIssuers();
  await first.stop();
  for (const _ of ['first', 'second', 'third'])
    expect(await kacme.run('renew', 'site', '--force')).toMatchObject({ status: 1 });
  expect(second.requests).toEqual([]);

  const service = await kacme.serve();
  await service.logged('issuance finished', { issuer: 'second' });
  expect(site(await kacme.settled())).toMatchObject({ issuer: 'second' });
});

test('a challenge path that is broken here is no reason to ask another issuer', async () => {
  const { kacme, issuers, certificates, first, second } = await twoIssuers();
  const via = `http://${await freeEndpoint()}`;
  await kacme.overlay({ issuers, certificates, challenge: { selfCheck: { via } } });
  for (const _ of ['first', 'second', 'third', 'fourth'])
    expect(await kacme.run('renew', 'site', '--force')).toMatchObject({ status: 1 });

  const service = await kacme.serve();
  await service.logged('renewal decided', { issuer: 'pebble', action: 'wait' });
  expect(site(await kacme.status())).toMatchObject({
    lastFailure: { code: 'ERR_CHALLENGE_UNREACHABLE', failures: 4 },
  });
  expect([...first.requests, ...second.requests]).toEqual([]);
});

test('what an operator must do is said, and a corrected configuration is taken up at once', async () => {
  const { kacme, issuers, first } = await twoIssuers();
  await kacme.overlay({ issuers });
  first.failWith(refusedBy('rejectedIdentifier'), NEW_ORDER);
  const service = await kacme.serve();
  await service.logged('renewal decided', { action: 'wait' });
  const refused = site(await kacme.status());
  expect(refused?.next).toMatch(
    /^waits until .*: only a self-signed certificate held; an operator must act after a failed attempt: correct or remove the identifiers.*; then run kacme renew site --force$/,
  );
  expect(Date.parse(refused?.lastFailure?.notBefore ?? '')).toBeGreaterThan(Date.now() + 90 * 60_000);
  expect(ordersAt(first)).toBe(1);

  first.failWith(undefined);
  await kacme.overlay({ issuers, certificates: { site: { identifiers: ['right.test'] } } });
  expect(await kacme.run('reload-config')).toMatchObject({ status: 0 });
  await service.logged('issuance finished', { issuer: 'pebble' });
  expect(ordersAt(first)).toBe(2);
  const corrected = site(await kacme.status());
  expect(corrected).toMatchObject({ identifiers: ['right.test'], issuer: 'pebble' });
  expect(corrected?.lastFailure).toBeUndefined();
});
