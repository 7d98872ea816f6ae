import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ReloadSummary } from '../../src/domain/status.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { SEEN_AT } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';
import { startTlsLoad } from '../support/tls-load.ts';

let lab: LabKacme;

const pool = (keys: Record<string, unknown> = {}) => {
  const { socketPath, masterSocketPath } = haproxyPaths(SEEN_AT);
  const haproxy = { socket: socketPath, masterSocket: masterSocketPath };
  return { pools: { lb: { haproxy, ...keys } } };
};

beforeEach(async () => {
  lab = await labKacme({
    hosts: 3,
    bundlePem: selfSigned('site.test').bundlePem,
    overlay: pool(),
  });
});
afterEach(() => lab?.close());

async function reload(expected: number, ...args: string[]): Promise<ReloadSummary> {
  const { status, stdout, stderr } = await lab.kacme.run('reload', '--json', ...args);
  expect({ status, stderr }).toMatchObject({ status: expected });
  return JSON.parse(stdout) as ReloadSummary;
}

const workerOf = ({ haproxy }: TestHost) => haproxy.pids()[1];

/** A configuration that tells by its answer that it was taken over. */
async function changeConfiguration({ haproxy }: TestHost): Promise<void> {
  const text = await readFile(haproxy.configPath, 'utf8');
  await writeFile(haproxy.configPath, text.replace('served by HAProxy', 'served by a changed HAProxy'));
}

async function answerOf({ haproxy: { address, tlsPort } }: TestHost): Promise<string> {
  const { Agent, fetch } = await import('undici');
  await using agent = Object.assign(new Agent({ connect: { rejectUnauthorized: false } }), {
    [Symbol.asyncDispose]: () => agent.close(),
  });
  return (await fetch(`https://${address}:${tlsPort}/`, { dispatcher: agent })).text();
}

describe('kacme reload', () => {
  test('has every host take its changed configuration over, one after the other, and no client notices', async () => {
    await using _service = await lab.kacme.serve();
    await lab.kacme.settled();
    const { hosts } = lab.fleet;
    for (const host of hosts) await changeConfiguration(host);
    const targets = hosts.map(({ haproxy: { address, tlsPort: port } }) => ({
      address,
      port,
      servername: 'site.test',
    }));
    await using load = startTlsLoad(targets, { workers: 4, pauseMs: 2 });

    const summary = await reload(0);

    expect(summary.hosts.map(({ action }) => action)).toEqual(['reloaded', 'reloaded', 'reloaded']);
    expect(summary.hosts[0]?.reason).toMatch(
      /^a new worker serves; \d+ handshakes present what the files hold/,
    );
    for (const host of hosts) expect(await answerOf(host)).toContain('served by a changed HAProxy');
    const { ok, failed, reasons } = await load.stop();
    expect({ failed, reasons }).toEqual({ failed: 0, reasons: {} });
    expect(ok).toBeGreaterThan(0);
  });

  test('stops at the first host that fails, and says which were not touched', async () => {
    await lab.kacme.run('bootstrap');
    const [first, second, third] = lab.fleet.hosts;
    if (first === undefined || second === undefined || third === undefined) throw new Error('three hosts');
    await appendFile(second.haproxy.configPath, '\nnonsense\n');
    const untouched = workerOf(third);

    const { outcome, hosts } = await reload(3);

    expect(outcome).toBe('partly');
    expect(hosts).toMatchObject([
      { host: first.address, action: 'reloaded' },
      { host: second.address, action: 'failed', failure: { code: 'ERR_HAPROXY_RELOAD' } },
      { host: third.address, action: 'untouched', reason: expect.stringContaining(`lb/${second.address}`) },
    ]);
    expect(workerOf(third)).toBe(untouched);
    const { stdout, status } = await lab.kacme.run('reload', '--host', second.address);
    expect(status).toBe(1);
    expect(stdout).toContain('0 of 1 hosts reloaded');
  });

  test('prepares and validates first, and reloads nothing that is not valid', async () => {
    await lab.kacme.run('bootstrap');
    const before = lab.fleet.hosts.map(workerOf);
    const script = 'echo "$1: unknown keyword"; exit 2';
    await lab.kacme.overlay(
      pool({ reload: { on: 'kacme', prepare: ['true'], validate: ['sh', '-c', script, 'sh', '{host}'] } }),
    );
    const { hosts } = await reload(1, '--pool', 'lb');
    const [first] = lab.fleet.hosts;
    expect(hosts[0]?.reason).toContain(`sh ended with status 2: ${first?.address}: unknown keyword`);
    expect(lab.fleet.hosts.map(workerOf)).toEqual(before);

    await lab.kacme.overlay(pool({ reload: { on: 'kacme', prepare: ['false'] } }));
    expect((await reload(1)).hosts[0]?.reason).toContain(
      "prepare HAProxy's configuration: false ended with status 1",
    );
  });

  test('says that a pool has no way to reload, and which pools there are', async () => {
    await lab.kacme.overlay(pool({ reload: 'off' }));
    const off = await lab.kacme.run('reload');
    expect(off).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('no way to reload is configured'),
    });
    const unknown = await lab.kacme.run('reload', '--pool', 'lbs');
    expect(unknown).toMatchObject({ status: 2, stderr: expect.stringContaining('name one of: lb') });
  });
});
