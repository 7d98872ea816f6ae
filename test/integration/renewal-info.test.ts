import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { loadRecord, renewalInfoRecord } from '../../src/app/records.ts';
import { FileStateStore } from '../../src/store/file-store.ts';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { realClock } from '../contract/real-clock.ts';
import { eventually } from '../support/eventually.ts';
import { type CaFault, type CaFront, startCaFront } from '../support/faulty-ca.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { pebbleCanReplace } from '../support/pebble.ts';
import { selfSigned } from '../support/pem.ts';

const DAY_MS = 86_400_000;
const RENEWAL_INFO = '/draft-ietf-acme-ari-03/renewalInfo/';
const WHY = 'https://ca.test/incident';

let lab: LabKacme;
let ca: CaFront;
beforeAll(async () => {
  lab = await labKacme({
    bundlePem: selfSigned('site.test').bundlePem,
    pebble: { renewalInfo: true, lifetimeSeconds: (6 * DAY_MS) / 1_000 },
  });
  ca = await startCaFront(lab.pebble);
  const issuer = { directory: ca.directoryUrl, caFile: ca.caFile, timeout: '1s' };
  await lab.kacme.overlay({ issuers: { pebble: issuer } });
  const { certPath = '' } = lab.fleet.hosts[0] ?? {};
  do expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
  while (!pebbleCanReplace(await readFile(certPath, 'utf8')));
});
afterEach(() => ca.failWith(undefined));
afterAll(async () => {
  await ca.close();
  await lab.close();
});

const count = (request: RegExp) => ca.requests.filter((line) => request.test(line)).length;
const polls = () => count(/^GET .*renewalInfo/);
const orders = () => count(/^POST \/order-plz/);
const site = async () => (await lab.kacme.status()).certificates[0];

async function serve() {
  const service = await lab.kacme.serve();
  onTestFinished(() => service.stop());
  return service;
}

/** The next poll is due, as it would be hours later. */
async function makePollDue(signal: AbortSignal): Promise<void> {
  const { storePath } = lab.kacme;
  const leadership = new SocketLeadership(storePath, { clock: realClock, command: 'test' });
  const mandate = await leadership.campaign({ signal });
  const store = await FileStateStore.open(storePath, { clock: realClock });
  try {
    const held = await loadRecord(store, renewalInfoRecord, 'site', { signal });
    if (held === undefined) throw new Error('kacme has stored what the CA said');
    const key = renewalInfoRecord.key('site');
    const due = { ...held.value, nextCheckAt: new Date().toISOString(), failures: 0 };
    const value = renewalInfoRecord.serialize(due);
    await store.transact(
      { conditions: [{ key, revision: held.revision }], puts: [{ key, value }], deletes: [] },
      { signal, mandate },
    );
  } finally {
    await store.close();
    await mandate.release();
  }
}

const window = (startMs: number, endMs: number): CaFault => {
  const [start, end] = [startMs, endMs].map((ms) => new Date(Date.now() + ms).toISOString());
  return (_, response) =>
    response
      .writeHead(200, { 'content-type': 'application/json', 'retry-after': '21600' })
      .end(JSON.stringify({ suggestedWindow: { start, end }, explanationURL: WHY }));
};

test('the service asks once, and the status says whose word the moment to renew is', async () => {
  const service = await serve();
  await service.logged('suggested window', { certificate: 'site' });
  const { certificates } = await lab.kacme.settled();
  expect(certificates).toMatchObject([
    { renewAtBasis: 'suggested by the CA', next: expect.stringMatching(/not due \(the CA's window, 20/) },
  ]);
  expect((await lab.kacme.run('status')).stdout).toMatch(/the CA's window/);
  await service.stop();

  const again = await serve();
  await again.logged('renewal decided', { certificate: 'site', action: 'wait' });
  await again.stop();
  expect([polls(), orders()]).toEqual([1, 1]);
});

test.for([
  { when: '429', fault: (_, response) => response.writeHead(429, { 'retry-after': '120' }).end() },
  { when: '500', fault: (_, response) => response.writeHead(500).end('out of order') },
  { when: 'garbage', fault: (_, response) => response.end('<h1>Hotel</h1>') },
] satisfies readonly { when: string; fault: CaFault }[])(
  'answered with $when the last window stays, and nothing backs off',
  async ({ fault }, { signal }) => {
    const before = await site();
    await makePollDue(signal);
    ca.failWith(fault, RENEWAL_INFO);
    const service = await serve();
    const missed = await service.logged('renewal information cannot be had', { certificate: 'site' });
    expect(Date.parse(String(missed['nextCheckAt']))).toBeGreaterThan(Date.now() + 50_000);
    const after = await site();
    expect(after?.renewAt).toBe(before?.renewAt);
    expect(after?.lastFailure).toBeUndefined();
    await service.stop();
  },
);

test('a window that moves into the past renews within one poll, replacing what it is about, and once', async ({
  signal,
}) => {
  const before = await site();
  const ordered = orders();
  await makePollDue(signal);
  ca.failWith(window(-2 * DAY_MS, -DAY_MS), RENEWAL_INFO);
  const service = await serve();
  const moved = await service.logged('suggested window', { certificate: 'site' });
  expect(moved).toMatchObject({ explanationURL: WHY });
  expect(await service.logged('issuance started', { certificate: 'site' })).toMatchObject({
    reason: expect.stringMatching(/^renewal due \(the CA's window, .*; see https:\/\/ca\.test\/incident\)$/),
  });
  const created = await service.logged('order created', { certificate: 'site' });
  expect(created['replaces']).toMatch(/^[\w-]+\.[\w-]+$/);
  await service.logged('suggested window not followed', { certificate: 'site' });
  const after = await eventually('the new bundle is in sync', async () => {
    const { certificates } = await lab.kacme.settled();
    return certificates[0]?.generation === (before?.generation ?? 0) + 1 && certificates[0];
  });
  expect(Date.parse(after.renewAt ?? '')).toBeGreaterThan(Date.now() + 2 * DAY_MS);
  expect(after.renewAtBasis).toBe('share of the lifetime');
  await service.stop();
  expect(orders()).toBe(ordered + 1);
});

test('an order that is refused because of what it replaces is made without it', async () => {
  const before = await site();
  ca.failWith((_, response) => {
    ca.failWith(undefined);
    response
      .writeHead(409, { 'content-type': 'application/problem+json' })
      .end('{"type":"urn:ietf:params:acme:error:alreadyReplaced","detail":"replaced before"}');
  }, '/order-plz');
  const ordered = orders();
  const { status, stderr } = await lab.kacme.run('renew', '--force', '--log-level', 'warn');
  expect(status).toBe(0);
  expect(stderr).toMatch(/replaced before.*replaces refused: ordering without it/);
  expect(orders()).toBe(ordered + 2);
  expect((await site())?.generation).toBe((before?.generation ?? 0) + 1);
});
