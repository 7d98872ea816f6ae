import { appendFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Status, Summary } from '../../src/domain/status.ts';
import { connectControl } from '../../src/http/control-client.ts';
import { type DnsZone, NAME, SERVICE, startDnsZone, targetOf } from '../support/dns-zone.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { SEEN_AT, type TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { scrape } from '../support/metrics.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { selfSigned } from '../support/pem.ts';
import { type ScratchDirectory, scratchDirectory } from '../support/scratch.ts';
import { startSocketGate } from '../support/socket-gate.ts';

let lab: LabKacme;
let zone: DnsZone;
let scratch: ScratchDirectory;
let first: TestHost;
let second: TestHost;
let third: TestHost;

beforeAll(async () => {
  const port = await freePort(loopbackAddress());
  lab = await labKacme({
    hosts: 3,
    bundlePem: selfSigned('site.test').bundlePem,
    sshd: { port, forward: [haproxyPaths(SEEN_AT).socketPath, join(SEEN_AT, 'gated.sock')] },
  });
  const [a, b, c] = lab.fleet.hosts;
  if (a === undefined || b === undefined || c === undefined) throw new Error('the lab has three hosts');
  [first, second, third] = [a, b, c];
  zone = await startDnsZone();
  scratch = await scratchDirectory();
});
afterAll(async () => {
  await lab?.close();
  await zone?.close();
  await scratch?.remove();
});

const pinned = (hosts: readonly TestHost[]) =>
  writeFile(lab.fleet.knownHostsFile, hosts.map(({ sshd }) => sshd.knownHosts).join(''));
beforeEach(async () => {
  zone.fault = undefined;
  zone.hosts = [first, second];
  await pinned([first, second, third]);
});

let service: TestService | undefined;
afterEach(async () => {
  await service?.stop();
  service = undefined;
});

/** Refreshed every second, so that nobody waits. */
const bySrv = () => ({ srv: SERVICE, resolvers: [zone.server], refresh: '1s' });
const byName = () => ({ dns: NAME, resolvers: [zone.server], refresh: '1s' });

async function serve(hosts: object, pool: object = {}): Promise<TestService> {
  const port = first.sshd.port;
  await lab.kacme.overlay({ pools: { lb: { hosts, ssh: { port }, ...pool } } });
  service = await lab.kacme.serve();
  return service;
}

/** Asked of the service itself: a process for each look would take more of the machine than what is waited for. */
async function statusNow(): Promise<Status> {
  const signal = AbortSignal.timeout(5_000);
  const running = await connectControl(join(lab.kacme.storePath, 'kacme.sock'), { signal });
  if (running === undefined) throw new Error('no service runs');
  return running.status({ signal });
}

const namesIn = ({ hosts }: Status) => hosts.map(({ host }) => host).toSorted();
const present = (hosts: readonly string[]) =>
  eventually(
    `the hosts are ${hosts.join(', ')}`,
    async () => {
      const status = await statusNow();
      return namesIn(status).join() === hosts.toSorted().join() && status;
    },
    { timeoutMs: 20_000 },
  );
const settledWith = async (hosts: readonly string[]) => {
  await present(hosts);
  return lab.kacme.settled();
};
const addresses = (...hosts: readonly TestHost[]) => hosts.map(({ address }) => address);
const targets = (...hosts: readonly TestHost[]) => hosts.map(targetOf);
const placeOn = (status: Status, host: string) =>
  status.hosts.find((other) => other.host === host)?.places[0];

describe('hosts by SRV records', () => {
  test('come and go without a word to the others', async () => {
    const { logged, log, operations } = await serve(bySrv());
    const settled = await settledWith(targets(first, second));
    expect(settled.discoveries).toMatchObject([
      { pool: 'lb', source: `SRV records of ${SERVICE}`, hosts: 2, missing: [] },
    ]);
    expect((await scrape(operations)).value('kacme_discovery_hosts', { pool: 'lb' })).toBe(2);
    const sessions = first.sshd.pids();

    zone.hosts = [first, second, third];
    await logged('host joins the pool', { host: targetOf(third), address: third.address });
    await settledWith(targets(first, second, third));
    expect(new Set(await lab.served()).size).toBe(1);

    zone.hosts = [first, second];
    await logged('host leaves the pool', { host: targetOf(third) });
    await present(targets(first, second));
    await eventually('its connection is ended', () => third.sshd.pids().length === 1);
    await lab.kacme.settled();
    // The others kept their connections, and nobody failed.
    expect(first.sshd.pids()).toEqual(sessions);
    expect(log().filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  test('are followed to another address, where their key is pinned under their name', async () => {
    const at = ({ address, sshd }: TestHost) => ({ address, sshd, target: 'moving.test' });
    const keys = await Promise.all([second, third].map(({ sshd }) => sshd.hostPublicKeys()));
    const lines = keys.flat().map((key) => `[moving.test]:${second.sshd.port} ${key}\n`);
    await writeFile(lab.fleet.knownHostsFile, first.sshd.knownHosts + lines.join(''));
    zone.hosts = [first, at(second)];
    await serve(bySrv());
    await settledWith([targetOf(first), 'moving.test']);
    await eventually('the second host is connected to', () => second.sshd.pids().length > 1);

    zone.hosts = [first, at(third)];
    await eventually('the third host is connected to', () => third.sshd.pids().length > 1);
    await eventually('the second one is let go', () => second.sshd.pids().length === 1);
    await settledWith([targetOf(first), 'moving.test']);
  });

  test('without a pinned key await it, are told how, and are served as soon as it is pinned', async () => {
    await pinned([first, second]);
    await serve(bySrv());
    await settledWith(targets(first, second));
    const before = await third.haproxy.servedFingerprint256('site.test');

    zone.hosts = [first, second, third];
    const name = targetOf(third);
    const waiting = await eventually('it awaits a pin', async () => {
      const status = await statusNow();
      return placeOn(status, name)?.state === 'awaiting pin' && status;
    });
    expect(placeOn(waiting, name)?.failure).toMatchObject({
      code: 'ERR_HOST_KEY_UNKNOWN',
      remedy: expect.stringContaining(`kacme hosts scan ${name} >> `),
    });
    expect(await third.haproxy.servedFingerprint256('site.test')).toBe(before);
    expect((await lab.kacme.run('status')).stdout).toContain('awaiting pin');

    // What the scan prints is pinned under the name of the target.
    const scan = await lab.kacme.run('hosts', 'scan', name);
    expect(scan.stdout).toContain(`[${name}]:${third.sshd.port} ssh-ed25519 `);
    await appendFile(lab.fleet.knownHostsFile, scan.stdout);
    await eventually('it is served', async () => placeOn(await statusNow(), name)?.state === 'in sync', {
      timeoutMs: 30_000,
    });
  });

  test.each([
    { how: 'SERVFAIL', fault: { code: 2 }, says: 'SERVFAIL' },
    { how: 'NXDOMAIN', fault: { code: 3 }, says: 'NXDOMAIN' },
    { how: 'no record', fault: {}, says: 'it names no host' },
    { how: 'silence', fault: 'silent' as const, says: 'no answer' },
  ])(
    'stay when the answer is $how',
    async ({ fault, says }) => {
      const { logged, log, operations } = await serve(bySrv());
      await settledWith(targets(first, second));

      zone.fault = fault;
      const line = await logged('hosts cannot be learned; those known stay', { pool: 'lb' });
      expect(JSON.stringify(line)).toContain(says);
      expect((await scrape(operations)).value('kacme_discovery_success', { pool: 'lb' })).toBe(0);
      const asked = zone.asked.length;
      await eventually('it is asked again', () => zone.asked.length > asked + 2);
      const shown = await lab.kacme.run('status');
      expect(shown).toMatchObject({ status: 3 });
      expect(shown.stdout + shown.stderr).toContain(`ERR_HOSTS_UNKNOWN`);
      await settledWith(targets(first, second));
      expect(log().filter(({ msg }) => msg === 'hosts cannot be learned; those known stay')).toHaveLength(1);

      zone.fault = undefined;
      await logged('hosts can be learned again', { pool: 'lb' });
      expect((await lab.kacme.run('status')).status).toBe(0);
    },
    60_000,
  );

  test('are known after a restart while DNS is dead', async () => {
    const before = await serve(bySrv());
    await settledWith(targets(first, second));
    await before.stop();
    zone.fault = { code: 2 };

    const { logged } = await serve(bySrv());
    await logged('leading', { hosts: 2 });
    await settledWith(targets(first, second));
    const renewed = await lab.kacme.run('renew', '--force', '--json');
    expect(JSON.parse(renewed.stdout)).toMatchObject({
      outcome: 'partly',
      places: [{ inSync: true }, { inSync: true }],
      unlearned: [{ pool: 'lb', failure: { code: 'ERR_HOSTS_UNKNOWN' } }],
    });
  });
});

describe('hosts by address records', () => {
  test('take the place of a list when the configuration is read again', async () => {
    const list = [first, second].map(({ address, sshd }) => `${address}:${sshd.port}`);
    const { signal, logged } = await serve(list);
    await settledWith(addresses(first, second));
    zone.hosts = [first, third];
    await lab.kacme.overlay({ pools: { lb: { hosts: byName(), ssh: { port: first.sshd.port } } } });
    signal('SIGHUP');
    await logged('configuration taken over');
    await settledWith(addresses(first, third));
    await eventually('the second host is let go', () => second.sshd.pids().length === 1);
  });

  test('come and go while a renewal is brought to the others', async () => {
    await serve(byName());
    await settledWith(addresses(first, second));
    zone.hosts = [first, third];
    expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
    await settledWith(addresses(first, third));
  });
});

describe('hosts by a file', () => {
  const hostsFile = () => join(scratch.path, 'hosts');
  const write = async (lines: readonly string[]) => {
    await writeFile(`${hostsFile()}.new`, lines.join('\n'));
    await rename(`${hostsFile()}.new`, hostsFile());
  };

  test('follow it when it is replaced, and stay when it is emptied, damaged or removed', async () => {
    await write(['# the fleet', `${first.address}   # the first`, '', second.address]);
    const { logged } = await serve({ file: hostsFile() });
    await settledWith(addresses(first, second));
    await write([first.address, third.address]);
    await settledWith(addresses(first, third));

    const failing = (says: string) =>
      eventually(`kacme says ${says}`, async () => {
        const { discoveries } = await statusNow();
        return discoveries[0]?.failure?.message.includes(says);
      });
    await write(['# nobody']);
    await failing('it names no host');
    await write([first.address, '10.0.0.256']);
    await failing(`${hostsFile()}:2:1: neither an IP address nor a host name`);
    await rm(hostsFile());
    await failing('ENOENT');
    await settledWith(addresses(first, third));

    await write([first.address]);
    await logged('host leaves the pool', { host: third.address });
    await present(addresses(first));
  }, 60_000);

  test('let a canary that leaves while it leads finish, or be lost, and the others follow', async () => {
    const gates = await Promise.all(
      lab.fleet.hosts.map(({ directory, haproxy }) =>
        startSocketGate(join(directory, 'gated.sock'), haproxy.socketPath),
      ),
    );
    onTestFinished(async () => void (await Promise.all(gates.map((gate) => gate.close()))));
    const everybody = lab.fleet.hosts.map(({ address }) => address);
    await write(everybody);
    const haproxy = { socket: join(SEEN_AT, 'gated.sock') };
    const { logged, log } = await serve({ file: hostsFile() }, { haproxy });
    await settledWith(everybody);

    for (const fate of ['finishes', 'is lost'] as const) {
      const holds = gates.map((gate) => gate.hold(/^set ssl cert/, 'before'));
      const renewal = lab.kacme.run('renew', '--force', '--json');
      const canary = await Promise.race(holds.map(async ({ reached }, i) => reached.then(() => i)));
      const leaving = lab.fleet.hosts[canary];
      if (leaving === undefined) throw new Error('every hold is of a host');
      const staying = everybody.filter((address) => address !== leaving.address);
      await write(staying);
      await logged('host leaves the pool', { host: leaving.address });
      await present(staying);
      if (fate === 'is lost') await leaving.sshd.stop();
      for (const { release } of holds) release();
      const { status, stdout } = await renewal;
      const { places } = JSON.parse(stdout) as Summary;
      const results = Object.fromEntries(places.map((place) => [place.host, place.inSync]));
      expect({ fate, status, results }).toEqual({
        fate,
        status: fate === 'finishes' ? 0 : 3,
        results: Object.fromEntries(
          everybody.map((address) => [address, address !== leaving.address || fate === 'finishes']),
        ),
      });
      await settledWith(staying);
      await eventually('nobody is connected to it any more', () => leaving.sshd.pids().length <= 1);
      if (fate === 'is lost') await leaving.sshd.start();
      await write(everybody);
      await logged('host joins the pool', { host: leaving.address });
      await settledWith(everybody);
      expect(new Set(await lab.served()).size).toBe(1);
    }
    expect(log().filter(({ msg }) => msg === 'canary chosen').length).toBeGreaterThan(2);
  }, 90_000);
});

describe('without a service', () => {
  test('commands ask by themselves', async () => {
    await lab.kacme.overlay({ pools: { lb: { hosts: bySrv() } } });
    const [name = ''] = targets(second);
    const distribute = await lab.kacme.run('distribute', '--host', name, '--json');
    expect(JSON.parse(distribute.stdout)).toMatchObject({ outcome: 'done', places: [{ host: name }] });
    expect(namesIn(await lab.kacme.status())).toEqual(targets(first, second).toSorted());
    expect(await lab.kacme.run('distribute', '--host', 'nobody.test')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining(name),
    });
    const snippet = await lab.kacme.run('haproxy', 'snippet', '--host', name);
    expect(snippet.stdout).toContain(`bind ${second.address}:`);
    const check = await lab.kacme.run('check');
    expect(check.stdout).toContain(`SRV records of ${SERVICE}: 2 hosts`);

    await pinned([first]);
    const adopt = await lab.kacme.run('adopt', '--from', 'hosts', '--dry-run', '--json');
    expect(JSON.parse(adopt.stdout)).toMatchObject({ problems: [{ where: `lb/${name}` }] });

    zone.fault = { code: 2 };
    expect(await lab.kacme.run('hosts', 'scan')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/SRV records of .*SERVFAIL/),
    });
  });
});
