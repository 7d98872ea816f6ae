import { expect, onTestFinished, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import { type AcmeGate, startAcmeGate } from '../support/acme-gate.ts';
import { eventually } from '../support/eventually.ts';
import type { Hold } from '../support/holds.ts';
import type { TestKacme } from '../support/kacme.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { loopbackAddress } from '../support/net.ts';
import { selfSigned } from '../support/pem.ts';

const NEW_ORDER = /^\/order-plz$/;

/** A CA whose limits are counted, behind a gate that can stop what kacme sends. */
async function gatedLab(limits: object) {
  const lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    pebble: { reuseAuthorizations: 0 },
  });
  onTestFinished(lab.close);
  const acme = await startAcmeGate(lab.pebble);
  onTestFinished(acme.close);
  const pebble = { directory: acme.directoryUrl, caFile: acme.caFile, limits };
  await lab.kacme.overlay({ issuers: { pebble }, challenge: { selfCheck: 'off' } });
  return { ...lab, acme };
}

/** The service orders by itself, and is killed at that moment. */
async function killedAt({ reached, release }: Hold, kacme: TestKacme): Promise<void> {
  const service = await kacme.serve();
  await reached;
  service.signal('SIGKILL');
  await service.exited;
  release();
}

const orders = ({ passed }: AcmeGate) => passed.filter(({ path }) => NEW_ORDER.test(path)).length;

test('an order whose answer was lost is counted, and one more makes the limit full', async () => {
  const { kacme, acme } = await gatedLab({ ordersPerAccount: { count: 2, per: '1h' } });
  await killedAt(acme.hold(NEW_ORDER, 'after'), kacme);
  const service = await kacme.serve();
  await service.logged('order abandoned', { reason: 'its newOrder was sent but the answer was lost' });
  await service.logged('issuance finished');
  expect(orders(acme)).toBe(2);

  const third = await kacme.run('renew', '--force', '--json');
  expect(third.status).toBe(1);
  const [renewed] = (JSON.parse(third.stdout) as Summary).certificates;
  expect(renewed?.failure).toMatchObject({
    code: 'ERR_RATE_LIMIT_NEAR',
    message: expect.stringContaining('orders of account pebble: the limit of 2 is used up'),
  });
  expect(orders(acme)).toBe(2);
});

test('an order is not repeated when its answer was lost and the limit is full', async () => {
  const { kacme, acme } = await gatedLab({ ordersPerAccount: { count: 1, per: '1h' } });
  await killedAt(acme.hold(NEW_ORDER, 'after'), kacme);
  const service = await kacme.serve();
  await service.logged('order abandoned', { reason: 'its newOrder was sent but the answer was lost' });
  await service.logged('issuance put off', { failures: 1 });
  expect(orders(acme)).toBe(1);
});

test('a validation that failed while kacme was dead is counted when the order is taken up', async () => {
  const { kacme, acme, pebble } = await gatedLab({ failedAuthorizations: { count: 1, per: '1h' } });
  // Nothing answers there.
  await pebble.setAddresses('site.test', [loopbackAddress()]);
  await killedAt(acme.hold(/^\/chalZ\//, 'after'), kacme);
  await eventually('the CA has given up', () => /set INVALID/i.test(pebble.output()));
  const service = await kacme.serve();
  await service.logged('order abandoned');
  await service.logged('issuance put off', { failures: 1 });
  const [site] = (await kacme.status()).certificates;
  expect(site?.lastFailure).toMatchObject({
    code: 'ERR_RATE_LIMIT_NEAR',
    message: expect.stringContaining('failed authorizations of site.test for pebble: the limit of 1'),
  });
  expect(orders(acme)).toBe(1);
});
