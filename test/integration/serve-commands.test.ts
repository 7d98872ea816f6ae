import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { bundleRecord, certificateRecord, loadRecord } from '../../src/app/records.ts';
import type { Summary } from '../../src/domain/status.ts';
import { FileStateStore } from '../../src/store/file-store.ts';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { realClock } from '../contract/real-clock.ts';
import { eventually } from '../support/eventually.ts';
import type { TestHost } from '../support/host.ts';
import { freeEndpoint, type TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { scrape } from '../support/metrics.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;
let service: TestService;

beforeAll(async () => {
  lab = await labKacme({ bundlePem: selfSigned('site.test').bundlePem });
  service = await lab.kacme.serve();
  await lab.kacme.settled();
});
afterAll(() => lab?.close());

function theHost(): TestHost {
  const [host] = lab.fleet.hosts;
  if (host === undefined) throw new Error('the lab has no host');
  return host;
}

async function readiness(operations: string): Promise<{ status: number; reasons: readonly string[] }> {
  const response = await fetch(`http://${operations}/readyz`);
  const { reasons } = (await response.json()) as { reasons: readonly string[] };
  return { status: response.status, reasons };
}

const lockHolder = () =>
  new SocketLeadership(lab.kacme.storePath, { clock: realClock, command: 'test' }).holder({
    signal: AbortSignal.timeout(5_000),
  });

describe('beside a running service', () => {
  test('bootstrap changes nothing that is valid', async () => {
    const before = { file: await readFile(theHost().certPath), served: await lab.served() };
    const bootstrap = await lab.kacme.run('bootstrap', '--json');
    expect(bootstrap).toMatchObject({ status: 0 });
    expect(JSON.parse(bootstrap.stdout) as Summary).toMatchObject({
      outcome: 'done',
      certificates: [{ action: 'kept' }],
      places: [{ action: 'left', inSync: true }],
    });
    expect({ file: await readFile(theHost().certPath), served: await lab.served() }).toEqual(before);
  });

  test('status is that of the service', async () => {
    const { role, hosts } = await lab.kacme.status();
    expect(role).toBe('leading');
    expect(hosts).toMatchObject([{ reachable: true, haproxyVersion: expect.stringMatching(/^\d/) }]);
  });

  test('renew of a name that is not configured says which are, exit 2', async () => {
    const renew = await lab.kacme.run('renew', 'sight');
    expect(renew).toMatchObject({ status: 2, stdout: '' });
    expect(renew.stderr).toContain('no certificate named sight');
    expect(renew.stderr).toContain('site');
  });

  test('the service is ready, and its metrics tell what the certificate says', async () => {
    expect(await readiness(service.operations)).toEqual({ status: 200, reasons: [] });
    const { certificates } = await lab.kacme.status();
    const metrics = await scrape(service.operations);
    const [certificate] = certificates;
    expect(await lab.served()).toEqual([certificate?.fingerprint256]);
    const leaf = new X509Certificate(await readFile(theHost().certPath));
    expect(metrics.value('kacme_certificate_not_after_seconds', { certificate: 'site' })).toBe(
      Date.parse(leaf.validTo) / 1000,
    );
    expect(metrics.value('kacme_certificate_renew_at_seconds', { certificate: 'site' })).toBe(
      Date.parse(certificate?.renewAt ?? '') / 1000,
    );
    expect(metrics.value('kacme_certificate_consecutive_failures', { certificate: 'site' })).toBe(0);
    expect(metrics.value('kacme_leading')).toBe(1);
    expect(metrics.value('kacme_host_reachable', { host: theHost().address })).toBe(1);
    expect(metrics.value('kacme_place_in_sync', { host: theHost().address, certificate: 'site' })).toBe(1);
    // Directory, nonce, account, order, authorization, challenge, finalize, download at least.
    const sent = metrics.value('kacme_acme_requests_total', { issuer: 'pebble', result: 'ok' });
    expect(sent).toBeGreaterThanOrEqual(7);
  });
});

describe('two services on one store', () => {
  test('the second refuses to start where the first one answers commands', async () => {
    const second = await lab.kacme.run('serve');
    expect(second.status).toBe(1);
    expect(second.stderr).toContain('another service answers there');
    expect(service.log().at(-1)?.msg).not.toBe('stopped');
  });

  test('the second stands by where only the store is shared, and leads once the first is gone', async () => {
    const operations = await freeEndpoint();
    onTestFinished(() => lab.kacme.overlay({}));
    await lab.kacme.overlay({
      challenge: { listen: await freeEndpoint() },
      operations: { listen: operations },
      control: { socket: join(lab.kacme.storePath, 'second.sock') },
    });
    const second = await lab.kacme.serve();
    const { holder } = await second.logged('standing by: another kacme holds the store');
    expect(holder).toContain(`kacme serve (pid ${service.pid}`);
    const standby = await readiness(operations);
    expect(standby).toEqual({ status: 503, reasons: [expect.stringContaining(`pid ${service.pid}`)] });
    expect((await lab.kacme.status()).role).toBe('standby');
    expect((await scrape(operations)).value('kacme_leading')).toBe(0);
    const renew = await lab.kacme.run('renew', '--force');
    expect(renew).toMatchObject({ status: 1, stderr: expect.stringContaining('held by kacme serve') });

    await service.stop();
    await second.logged('leading');
    await eventually('it is ready', async () => (await readiness(operations)).status === 200);
    expect((await lab.kacme.settled()).role).toBe('leading');
    await second.stop();
  });
});

describe('a one-shot command that holds the lock', () => {
  test('is waited for by serve, which then leads', async () => {
    theHost().sshd.freeze();
    onTestFinished(() => theHost().sshd.thaw());
    const bootstrap = lab.kacme.run('bootstrap');
    await eventually('bootstrap holds the lock', async () => (await lockHolder()) !== undefined);
    service = await lab.kacme.serve();
    const { holder } = await service.logged('standing by: another kacme holds the store');
    expect(holder).toContain('kacme bootstrap');
    theHost().sshd.thaw();
    expect(await bootstrap).toMatchObject({ status: 0 });
    await service.logged('leading');
    await service.stop();
  });

  test('and the challenge port is waited for just so', async () => {
    lab.pebble.freeze();
    onTestFinished(() => lab.pebble.thaw());
    const renew = lab.kacme.run('renew', '--force');
    await eventually('renew answers challenges', async () => (await challengeStatus()) === 404);
    const starting = lab.kacme.serve();
    const busy = await lab.kacme.run('renew', '--force');
    expect(busy).toMatchObject({ status: 1, stderr: expect.stringContaining('held by kacme renew') });
    lab.pebble.thaw();
    expect(await renew).toMatchObject({ status: 0 });
    service = await starting;
    await service.logged('leading');
    await lab.kacme.settled();
  });
});

describe('when the CA is gone', () => {
  test('a failed renewal shows in exit status, status and metrics, and the host keeps its bundle', async () => {
    const before = await lab.served();
    await lab.pebble.stop();
    const renew = await lab.kacme.run('renew', '--force', '--json');
    expect(renew).toMatchObject({ status: 1 });
    expect(JSON.parse(renew.stdout) as Summary).toMatchObject({
      outcome: 'failed',
      certificates: [{ action: 'failed', failure: { code: 'ERR_ACME_UNREACHABLE' } }],
    });
    const { certificates } = await lab.kacme.status();
    expect(certificates).toMatchObject([
      { state: 'valid', lastFailure: { code: 'ERR_ACME_UNREACHABLE', failures: 1 } },
    ]);
    const metrics = await scrape(service.operations);
    expect(metrics.value('kacme_certificate_consecutive_failures', { certificate: 'site' })).toBe(1);
    expect(metrics.value('kacme_certificate_last_failure_timestamp_seconds', { certificate: 'site' })).toBe(
      Date.parse(certificates[0]?.lastFailure?.at ?? '') / 1000,
    );
    expect(
      metrics.value('kacme_acme_requests_total', { issuer: 'pebble', result: 'ERR_ACME_UNREACHABLE' }),
    ).toBeGreaterThan(0);
    expect(await lab.served()).toEqual(before);
    expect(await readiness(service.operations)).toEqual({ status: 200, reasons: [] });
  });

  test('an expired certificate makes it not ready, and the reason says what happens next', async () => {
    await service.stop();
    await letExpire();
    service = await lab.kacme.serve();
    const { reasons } = await eventually('it is not ready', async () => {
      const { status, reasons } = await readiness(service.operations);
      return status === 503 && reasons.some((reason) => reason.includes('expired')) && { reasons };
    });
    expect(reasons).toEqual([
      expect.stringMatching(/^certificate site is expired; .*(backing off|issues now)/),
    ]);
  });
});

async function challengeStatus(): Promise<number | undefined> {
  try {
    return (await fetch(`http://${lab.challengeListen}/`)).status;
  } catch {
    return undefined; // Nobody listens yet.
  }
}

/** Nothing but time can do that: this sets the date that the store remembers. */
async function letExpire(): Promise<void> {
  const signal = AbortSignal.timeout(5_000);
  const leadership = new SocketLeadership(lab.kacme.storePath, { clock: realClock, command: 'test' });
  const mandate = await leadership.campaign({ signal });
  const store = await FileStateStore.open(lab.kacme.storePath, { clock: realClock });
  try {
    const active = (await loadRecord(store, certificateRecord, 'site', { signal }))?.value.active ?? '';
    const held = await loadRecord(store, bundleRecord, ['site', active], { signal });
    if (held === undefined) throw new Error('no bundle is active');
    const key = bundleRecord.key('site', active);
    const value = bundleRecord.serialize({ ...held.value, notAfter: new Date(0).toISOString() });
    const conditions = [{ key, revision: held.revision }];
    await store.transact({ conditions, puts: [{ key, value }], deletes: [] }, { signal, mandate });
  } finally {
    await store.close();
    await mandate.release();
  }
}

describe('a forced renewal', () => {
  test('changes each host once, with its handshakes once, and tells what the loops did', async () => {
    // Otherwise a look at a host in the meantime would make a handshake of its own.
    const overlay = { reconcile: { every: '30s' } };
    await using own = await labKacme({ hosts: 2, bundlePem: selfSigned('site.test').bundlePem, overlay });
    const serve = await own.kacme.serve();
    await own.kacme.settled();
    // No loop has anything left to look at after it, until half a minute has passed.
    expect(await own.kacme.run('renew', 'site', '--force')).toMatchObject({ status: 0 });

    const { hosts } = own.fleet;
    const before = await Promise.all(hosts.map(handshakesAt));
    const changesBefore = changesIn(serve);
    const renew = await own.kacme.run('renew', 'site', '--force', '--json');
    const after = await Promise.all(hosts.map(handshakesAt));

    expect(renew).toMatchObject({ status: 0 });
    expect(JSON.parse(renew.stdout) as Summary).toMatchObject({
      outcome: 'done',
      places: hosts.map(({ address: host }) => ({ host, action: 'swapped', inSync: true })),
    });
    expect(changesIn(serve) - changesBefore).toBe(hosts.length);
    // The canary makes all of them. At the other host two former swaps have shown that no old worker listens.
    expect(after.map((count, i) => count - (before[i] ?? 0)).sort()).toEqual([1, 4]);
    const [served] = await own.served();
    expect(served).toBe((await own.kacme.status()).certificates[0]?.fingerprint256);
  });
});

const changesIn = (serve: TestService): number =>
  serve.log().filter(({ msg }) => msg === 'host changed').length;

/** TLS connections that HAProxy has taken since it started. */
async function handshakesAt({ haproxy }: TestHost): Promise<number> {
  return Number(/^CumSslConns: (\d+)$/m.exec(await haproxy.command('show info'))?.[1]);
}
