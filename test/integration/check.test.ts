import { chmod, readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { CheckReport } from '../../src/domain/finding.ts';
import { startFaultyDns } from '../support/dns-server.ts';
import type { Finished, TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;

beforeAll(async () => {
  lab = await labKacme({ hosts: 2, bundlePem: selfSigned('site.test').bundlePem });
});
afterAll(() => lab.close());

const reportOf = ({ stdout, stderr }: Finished): CheckReport => {
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as CheckReport;
};
const check = async () => {
  const finished = await lab.kacme.run('check', '--json');
  return { status: finished.status, ...reportOf(finished) };
};
const stateOf = ({ findings }: CheckReport) =>
  Object.fromEntries(findings.map(({ check, subject, state }) => [`${check} of ${subject}`, state]));
const notOk = ({ findings }: CheckReport) => findings.filter(({ state }) => state !== 'ok');
const hostName = (index: number) => {
  const { address, sshd } = lab.fleet.hosts[index] ?? {};
  return `lb/${address}:${sshd?.port}`;
};

const namesIn = async (directory: string) => (await readdir(directory)).sort();

describe('before anything was done', () => {
  test('all is checked, and nothing stays: no store, no account, no file on a host', async () => {
    const directories = lab.fleet.hosts.map(({ haproxy }) => dirname(haproxy.certPath));
    const before = await Promise.all(directories.map(namesIn));
    const report = await check();
    expect(notOk(report)).toEqual([]);
    expect(report).toMatchObject({ status: 0, outcome: 'done' });
    expect(stateOf(report)).toMatchObject({
      'store of kacme': 'ok',
      'challenge port of kacme': 'ok',
      'operations port of kacme': 'ok',
      'directory of pebble': 'ok',
      'clock of pebble': 'ok',
      'terms of pebble': 'ok',
      'account of pebble': 'ok',
      'dns of site.test': 'ok',
      'http-01 of site.test': 'ok',
      'caa pebble of site.test': 'ok',
      [`login of ${hostName(0)}`]: 'ok',
      [`haproxy of ${hostName(0)}`]: 'ok',
      [`socket level of ${hostName(0)}`]: 'ok',
      [`directory of ${hostName(1)}`]: 'ok',
      [`file of ${hostName(1)}`]: 'ok',
      [`handshakes of ${hostName(1)}`]: 'ok',
    });
    expect(report.findings.find(({ check }) => check === 'account')?.reason).toContain('none yet');
    await expect(stat(lab.kacme.storePath)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await Promise.all(directories.map(namesIn))).toEqual(before);
    expect(lab.pebble.output()).not.toMatch(/new-?acct|sign-me-up/i);
  });

  test('people get a table, and what to do', async () => {
    await lab.kacme.overlay({ challenge: { selfCheck: 'off' } });
    onTestFinished(() => lab.kacme.overlay({}));
    const { status, stdout } = await lab.kacme.run('check');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^CHECK +ON +STATE +REASON\n/);
    expect(stdout).toMatch(/http-01 of site\.test: warning\n {2}not tested: challenge\.selfCheck is off/);
    expect(stdout).toMatch(/\d+ ok \(/);
  });
});

describe('a fault is found', () => {
  test('in DNS', async () => {
    const dns = await startFaultyDns(() => ({ code: 3 }));
    onTestFinished(dns.close);
    await lab.kacme.overlay({ challenge: { resolvers: [`${dns.listen.host}:${dns.listen.port}`] } });
    onTestFinished(() => lab.kacme.overlay({}));
    const report = await check();
    expect(report).toMatchObject({ status: 1, outcome: 'failed' });
    expect(notOk(report)).toMatchObject([{ check: 'dns', code: 'ERR_DNS_NO_SUCH_NAME', state: 'failed' }]);
  });

  test('in the name servers: a warning, since challenges are fetched via an address', async () => {
    await lab.pebble.failLookups('site.test');
    onTestFinished(() => lab.pebble.failLookups('site.test', false));
    const report = await check();
    expect(report).toMatchObject({ status: 0, outcome: 'done' });
    expect(notOk(report)).toMatchObject([
      { check: 'dns', state: 'warning', reason: expect.stringContaining('SERVFAIL') },
      { check: 'caa pebble', state: 'warning', reason: expect.stringContaining('SERVFAIL') },
    ]);
  });

  test('in the directory of one host: the others are fine', async () => {
    const directory = dirname(lab.fleet.hosts[1]?.haproxy.certPath ?? '');
    const { mode } = await stat(directory);
    await chmod(directory, 0o555);
    onTestFinished(() => chmod(directory, mode & 0o7777));
    const report = await check();
    expect(report).toMatchObject({ status: 3, outcome: 'partly' });
    expect(notOk(report)).toMatchObject([
      { check: 'directory', subject: hostName(1), code: 'ERR_HOST_NOT_WRITABLE', state: 'failed' },
      { check: 'directory', subject: hostName(1), reason: expect.stringContaining('in place') },
    ]);
  });

  test('in the way to a host', async () => {
    await lab.fleet.hosts[0]?.sshd.stop();
    onTestFinished(async () => lab.fleet.hosts[0]?.sshd.start());
    const report = await check();
    expect(report.status).toBe(3);
    expect(notOk(report)).toMatchObject([{ check: 'login', code: 'ERR_HOST_UNREACHABLE' }]);
  });

  test('in the CA', async () => {
    await lab.pebble.stop();
    onTestFinished(() => lab.pebble.start());
    const report = await check();
    expect(report.status).toBe(1);
    expect(notOk(report)).toMatchObject([
      { check: 'directory', subject: 'pebble', code: 'ERR_ACME_UNREACHABLE' },
    ]);
  });
});

describe('with the service running', () => {
  let service: TestService;
  beforeAll(async () => {
    service = await lab.kacme.serve();
    await lab.kacme.settled();
  });
  afterAll(() => service.stop());

  test('the service checks, and knows its account and its bundles', async () => {
    const report = await check();
    expect(notOk(report)).toEqual([]);
    expect(report.status).toBe(0);
    const reasons = Object.fromEntries(report.findings.map(({ check, reason }) => [check, reason]));
    expect(reasons).toMatchObject({
      service: expect.stringContaining('leads'),
      account: expect.stringContaining('/my-account/'),
      'http-01': expect.stringMatching(/a challenge comes back via http.*, 2 of 2 times/),
      handshakes: expect.stringMatching(/^\d+ present site$/),
      buffer: expect.stringMatching(/of 16384 bytes/),
    });
  });

  test('a way of challenges that is interrupted is found', async () => {
    await lab.fleet.hosts[0]?.haproxy.stop();
    onTestFinished(async () => lab.fleet.hosts[0]?.haproxy.start());
    const report = await check();
    expect(report.status).toBe(1);
    expect(notOk(report)).toMatchObject([
      { check: 'http-01', code: 'ERR_CHALLENGE_UNREACHABLE', reason: expect.stringContaining('refused') },
      { check: 'haproxy', subject: hostName(0), state: 'warning' },
    ]);
  });
});
