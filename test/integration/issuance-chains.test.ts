import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Summary } from '../../src/domain/status.ts';
import { certificatesIn, rootNameOf } from '../../src/domain/x509.ts';
import { type CaFront, startCaFront } from '../support/faulty-ca.ts';
import type { Finished } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { startPebble } from '../support/pebble.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;
let ca: CaFront;
/** Common names of Pebble's roots: its first choice, then the alternates. */
let roots: readonly string[];

beforeAll(async () => {
  lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    pebble: { env: { PEBBLE_ALTERNATE_ROOTS: '2', PEBBLE_CHAIN_LENGTH: '2' } },
  });
  ca = await startCaFront(lab.pebble);
  roots = await Promise.all(
    [0, 1, 2].map(async (index) =>
      new X509Certificate(await lab.pebble.issuingRoot(index)).subject.replace('CN=', ''),
    ),
  );
});
afterAll(async () => {
  await ca.close();
  await lab.close();
});

const prefer = (chains: { issuer?: string | undefined; certificate?: string | undefined }) =>
  lab.kacme.overlay({
    issuers: { pebble: { directory: ca.directoryUrl, caFile: ca.caFile, preferredChain: chains.issuer } },
    certificates: { site: { preferredChain: chains.certificate } },
  });

const renew = () => lab.kacme.run('renew', '--force', '--json');
const failureOf = ({ stdout }: Finished) => (JSON.parse(stdout) as Summary).certificates[0]?.failure;
const sent = (path: string) => ca.requests.filter((request) => request.startsWith(`POST ${path}`)).length;

const onDisk = () => readFile(lab.fleet.hosts[0]?.haproxy.certPath ?? '', 'utf8');

/** The chain in the file that HAProxy has. */
async function installed() {
  const pem = await onDisk();
  return { certificates: certificatesIn(pem).length, root: rootNameOf(pem) };
}

test.each([
  { when: "the CA's own choice is installed when none is preferred", root: 0 },
  { when: "an issuer's preferred chain is installed", issuer: 1, root: 1 },
  { when: "a certificate's own preference goes first", issuer: 1, certificate: 2, root: 2 },
])('$when', async ({ issuer, certificate, root }) => {
  await prefer({
    issuer: issuer === undefined ? undefined : roots[issuer],
    certificate: certificate === undefined ? undefined : roots[certificate],
  });
  expect(await renew()).toMatchObject({ status: 0 });
  expect(await installed()).toEqual({ certificates: 3, root: roots[root] });
});

test('a chain that is not offered wastes nothing: mended, the same certificate is downloaded by the next kacme', async () => {
  const before = await lab.served();
  const [orders, finalized] = [sent('/order-plz'), sent('/finalize-order/')];
  await prefer({ certificate: 'Roots of Nowhere' });
  for (const _ of ['first', 'again']) {
    const failure = failureOf(await renew());
    expect(failure).toMatchObject({ code: 'ERR_ACME_CHAIN', retry: 'never' });
    for (const name of roots) expect(failure?.message).toContain(`"${name}"`);
    expect(failure?.remedy).toMatch(/^set certificates\.site\.preferredChain to one of /);
  }
  expect(await lab.served()).toEqual(before);
  expect([sent('/order-plz'), sent('/finalize-order/')]).toEqual([orders + 1, finalized + 1]);

  await prefer({ certificate: roots[2] });
  expect(await renew()).toMatchObject({ status: 0 });

  expect([sent('/order-plz'), sent('/finalize-order/')]).toEqual([orders + 1, finalized + 1]);
  expect(await installed()).toMatchObject({ root: roots[2] });
  expect(await lab.served()).not.toEqual(before);
});

test('a service that waits for its configuration goes on when it is mended', async () => {
  const orders = sent('/order-plz');
  await prefer({ certificate: 'Roots of Nowhere' });
  expect(failureOf(await renew())).toMatchObject({ code: 'ERR_ACME_CHAIN' });
  const service = await lab.kacme.serve();
  await service.logged('renewal decided', { certificate: 'site', action: 'wait' });

  await prefer({ certificate: roots[1] });
  service.signal('SIGHUP');
  await service.logged('bundle activated', { certificate: 'site' });

  expect(sent('/order-plz')).toBe(orders + 1);
  await lab.kacme.settled();
  expect(await installed()).toMatchObject({ root: roots[1] });
  await service.stop();
});

test('a rehearsal at a CA with other roots is not asked for the chain of the real one', async () => {
  const [host] = lab.fleet.hosts;
  if (host === undefined) throw new Error('the lab has a host');
  const staging = await startPebble({ httpPort: host.haproxy.httpPort, defaultAddress: host.address });
  onTestFinished(staging.close);
  const { directoryUrl: directory, caFile } = staging;
  await lab.kacme.overlay({
    issuers: {
      staging: { directory, caFile, termsOfServiceAgreed: true },
      pebble: { stagingFirst: 'staging' },
    },
    certificates: { site: { identifiers: ['site.test', 'new.site.test'], preferredChain: roots[2] } },
  });

  const renewal = await renew();

  expect(renewal).toMatchObject({ status: 0 });
  expect(staging.output()).toContain('Issued certificate');
  expect(await installed()).toMatchObject({ root: roots[2] });
});
