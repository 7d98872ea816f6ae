import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Status, Summary } from '../../src/domain/status.ts';
import { eventually } from '../support/eventually.ts';
import { type CaFault, type CaFront, startCaFront } from '../support/faulty-ca.ts';
import { startHaproxy } from '../support/haproxy.ts';
import { type Finished, freeEndpoint } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { loopbackAddress } from '../support/net.ts';
import { selfSigned } from '../support/pem.ts';

const html: CaFault = (_, response) =>
  response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Welcome to the hotel</h1>');
const broken: CaFault = (_, response) => response.writeHead(500).end('out of order');
const silence: CaFault = () => {};

interface CaLab {
  readonly lab: LabKacme;
  readonly ca: CaFront;
  /** The issuer as the front is reached, with a timeout of a second. */
  readonly issuer: Readonly<Record<string, unknown>>;
  close(): Promise<void>;
}

/** One host with a self-signed bundle of kacme, and a CA behind a front that can be made to fail. */
async function caLab(): Promise<CaLab> {
  const lab = await labKacme({ bundlePem: selfSigned('site.test').bundlePem });
  const ca = await startCaFront(lab.pebble);
  const issuer = { directory: ca.directoryUrl, caFile: ca.caFile, timeout: '1s' };
  await lab.kacme.overlay({ issuers: { pebble: issuer } });
  const close = async () => {
    await ca.close();
    await lab.close();
  };
  expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
  return { lab, ca, issuer, close };
}

const summaryOf = ({ stdout }: Finished) => JSON.parse(stdout) as Summary;

describe('a CA that fails while a certificate of it is served', () => {
  let made: CaLab;
  let issued: string | undefined;
  beforeAll(async () => {
    made = await caLab();
    expect(await made.lab.kacme.run('renew')).toMatchObject({ status: 0 });
    [issued] = await made.lab.served();
  });
  afterEach(() => made.ca.failWith(undefined));
  afterAll(() => made.close());

  async function expectFailure(code: string, says: RegExp, remedy: RegExp): Promise<void> {
    const { lab, ca } = made;
    const startedMs = performance.now();
    const renewal = await lab.kacme.run('renew', '--force', '--json');
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    expect(renewal.status).toBe(1);
    const [certificate] = summaryOf(renewal).certificates;
    expect(certificate).toMatchObject({ action: 'failed', failure: { code } });
    expect(certificate?.failure?.message).toContain(ca.directoryUrl);
    expect(certificate?.failure?.message).toMatch(says);
    expect(certificate?.failure?.remedy).toMatch(remedy);

    const { certificates } = await lab.kacme.status();
    expect(certificates).toMatchObject([{ state: 'valid', fingerprint256: issued, lastFailure: { code } }]);
    expect(Date.parse(certificates[0]?.lastFailure?.notBefore ?? '')).toBeGreaterThan(Date.now());
    const { status, stdout } = await lab.kacme.run('status');
    expect(status).toBe(3);
    expect(stdout).toMatch(/what happens next: waits until \d{4}-\d\d-\d\d \d\d:\d\dZ: .* \(in /);
    expect(await lab.served()).toEqual([issued]);
  }

  test('it refuses connections', async () => {
    await made.ca.stop();
    onTestFinished(made.ca.start);
    await expectFailure('ERR_ACME_UNREACHABLE', /connection refused/, /DNS/);
  });

  test('it answers 500', async () => {
    made.ca.failWith(broken);
    await expectFailure('ERR_ACME_PROBLEM', /HTTP 500.*"out of order"/, /status page/);
  });

  test('it accepts connections and never answers', async () => {
    made.ca.failWith(silence);
    await expectFailure('ERR_ACME_TIMEOUT', /no complete answer within 1000 ms/, /timeout/);
  });

  test('it answers HTML', async () => {
    made.ca.failWith(html);
    await expectFailure('ERR_ACME_MALFORMED', /Welcome to the hotel/, /proxy/);
  });

  test('its HTTPS certificate is of an unknown CA', async () => {
    const { lab, ca, issuer } = made;
    await lab.kacme.overlay({ issuers: { pebble: { ...issuer, caFile: ca.otherCaFile } } });
    onTestFinished(() => lab.kacme.overlay({ issuers: { pebble: issuer } }));
    await expectFailure('ERR_ACME_UNREACHABLE', /HTTPS certificate/, /caFile/);
  });

  test('it is asked again by an operator although kacme waits, and then all is well', async () => {
    expect(await made.lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
    const { certificates } = await made.lab.kacme.status();
    expect(certificates).toMatchObject([{ state: 'valid' }]);
    expect(certificates[0]?.lastFailure).toBeUndefined();
  });
});

describe('a challenge that cannot be reached is found before the CA is asked', () => {
  let made: CaLab;
  beforeAll(async () => {
    made = await caLab();
  });
  afterAll(() => made.close());

  async function expectFound(via: string, says: RegExp): Promise<void> {
    const { lab, ca, issuer } = made;
    await lab.kacme.overlay({ issuers: { pebble: issuer }, challenge: { selfCheck: { via } } });
    const renewal = await lab.kacme.run('renew', '--force', '--json');
    expect(renewal.status).toBe(1);
    const failure = summaryOf(renewal).certificates[0]?.failure;
    expect(failure).toMatchObject({ code: 'ERR_CHALLENGE_UNREACHABLE' });
    expect(failure?.message).toMatch(/http:\/\/site\.test\/\.well-known\/acme-challenge\/[\w-]+ \(via /);
    expect(failure?.message).toContain(via);
    expect(failure?.message).toMatch(says);
    expect(failure?.message).toContain('The CA was not asked');
    expect(failure?.remedy).toMatch(/challenge\.listen/);
    expect(ca.requests).toEqual([]);
    expect((await lab.kacme.status()).certificates).toMatchObject([
      { state: 'self-signed', lastFailure: { code: 'ERR_CHALLENGE_UNREACHABLE' } },
    ]);
  }

  test('HAProxy has no route for it', async () => {
    const haproxy = await startHaproxy({ bundlePem: selfSigned('site.test').bundlePem });
    onTestFinished(haproxy.close);
    await expectFound(`http://${haproxy.address}:${haproxy.httpPort}`, /HTTP 404 and "nothing here"/);
  });

  test('somebody else answers', async () => {
    const server = createServer((_, response) => response.end('It works!'));
    server.listen(0, loopbackAddress());
    await once(server, 'listening');
    onTestFinished(async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    });
    const { address, port } = server.address() as AddressInfo;
    await expectFound(`http://${address}:${port}`, /HTTP 200 and "It works!".*somebody else/);
  });

  test('nothing listens', async () => {
    await expectFound(`http://${await freeEndpoint()}`, /connection refused/);
  });

  test('the address does not exist', async () => {
    await expectFound('http://haproxy.invalid', /DNS|name server/);
  });
});

test('the back-off outlives restarts of the service: nothing is asked before it is over', async () => {
  const made = await caLab();
  onTestFinished(made.close);
  const { lab, ca } = made;
  const bootstrapped = await lab.served();
  ca.failWith(broken);
  expect(await lab.kacme.run('renew')).toMatchObject({ status: 1 });
  const asked = ca.requests.length;
  expect(asked).toBeGreaterThan(0);

  for (const _ of ['first', 'second']) {
    const service = await lab.kacme.serve();
    const decided = await service.logged('renewal decided', { certificate: 'site', action: 'wait' });
    expect(decided['reason']).toMatch(/failed attempt/);
    await service.stop();
  }

  expect(ca.requests).toHaveLength(asked);
  expect(await lab.served()).toEqual(bootstrapped);
  const { certificates }: Status = await lab.kacme.status();
  expect(certificates).toMatchObject([{ state: 'self-signed', lastFailure: { failures: 1 } }]);
});

test('a renewal that is interrupted ends at once, says so, and is taken up by the next', async () => {
  const made = await caLab();
  onTestFinished(made.close);
  const { lab, ca, issuer } = made;
  await lab.kacme.overlay({ issuers: { pebble: { ...issuer, timeout: '1m' } } });
  const finalizing = () => ca.requests.some((request) => request.startsWith('POST /finalize-order/'));
  ca.failWith(silence, '/finalize-order/');
  const renewal = lab.kacme.start('renew');
  await eventually('the order is being finalized', finalizing);
  const startedMs = performance.now();
  renewal.signal('SIGINT');
  const { status, stderr } = await renewal.finished;
  expect(performance.now() - startedMs).toBeLessThan(3_000);
  expect(status).toBe(1);
  expect(stderr).toMatch(/kacme: stopped by SIGINT before it was done\n {2}what to do: run it again/);

  ca.failWith(undefined);
  const before = await lab.kacme.status();
  expect(before.certificates).toMatchObject([{ state: 'self-signed' }]);
  expect(before.certificates[0]?.lastFailure).toBeUndefined();
  expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
  expect(ca.requests.filter((request) => request === 'POST /order-plz')).toHaveLength(1);
  expect((await lab.kacme.status()).certificates).toMatchObject([{ state: 'valid' }]);
});
