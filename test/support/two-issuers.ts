import { onTestFinished } from 'vitest';
import { type CaFront, startCaFront } from './faulty-ca.ts';
import { labKacme } from './lab-kacme.ts';
import { startPebble } from './pebble.ts';
import { selfSigned } from './pem.ts';

/** Where Pebble takes orders. */
export const NEW_ORDER = '/order-plz';

export const ordersAt = ({ requests }: CaFront): number =>
  requests.filter((request) => request === `POST ${NEW_ORDER}`).length;

/** Two CAs, `pebble` and `second`, each of which can be made to fail and records what it is asked; `site` may come from both. */
export async function twoIssuers() {
  const lab = await labKacme({ bundlePem: selfSigned('site.test').bundlePem });
  onTestFinished(lab.close);
  const other = await startPebble({
    httpPort: lab.pebble.httpPort,
    defaultAddress: lab.fleet.hosts[0]?.address ?? '',
  });
  onTestFinished(other.close);
  const [first, second] = [await startCaFront(lab.pebble), await startCaFront(other)];
  onTestFinished(first.close);
  onTestFinished(second.close);
  const issuers = {
    pebble: { directory: first.directoryUrl, caFile: first.caFile },
    second: { directory: second.directoryUrl, caFile: second.caFile, termsOfServiceAgreed: true },
  };
  const certificates = { site: { issuers: ['pebble', 'second'] } };
  await lab.kacme.overlay({ issuers, certificates });
  return { ...lab, other, issuers, certificates, first, second };
}
