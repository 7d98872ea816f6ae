import { expect, onTestFinished, test } from 'vitest';
import { type CaFault, changing, startCaFront } from '../support/faulty-ca.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

/** As `ORDERS_IN_FLIGHT` of the service. */
const BOUND = 8;

test('twenty certificates from nothing are ordered side by side, and no more than eight at a time', async () => {
  const names = Array.from({ length: 20 }, (_, i) => `c${i}`);
  const lab = await labKacme({
    bundlePem: selfSigned('c0.test').bundlePem,
    certificates: Object.fromEntries(names.map((name) => [name, [`${name}.test`]])),
  });
  onTestFinished(lab.close);
  const ca = await startCaFront(lab.pebble);
  onTestFinished(ca.close);
  await lab.kacme.overlay({ issuers: { pebble: { directory: ca.directoryUrl, caFile: ca.caFile } } });
  let [open, most] = [0, 0];
  const counting = (step: number): CaFault =>
    changing(() => {
      open += step;
      most = Math.max(most, open);
      return {};
    });
  // An order is open from its answer until its chain is handed out.
  ca.rules({ path: '/order-plz', fault: counting(1) }, { path: '/certZ/', fault: counting(-1) });

  const { status, stdout } = await lab.kacme.run('renew', '--json');

  expect(stdout).toContain('"action": "issued"');
  expect(status).toBeLessThanOrEqual(3);
  expect(ca.requests.filter((request) => request === 'POST /order-plz')).toHaveLength(20);
  expect(ca.requests.filter((request) => request === 'POST /sign-me-up')).toHaveLength(1);
  expect(most).toBeGreaterThan(1);
  expect(most).toBeLessThanOrEqual(BOUND);
}, 60_000);
