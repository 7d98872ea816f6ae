import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { AdoptionSummary, CertificateStatus } from '../../src/domain/status.ts';
import type { TestHost } from '../support/host.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { runLego } from '../support/lego.ts';
import { type TestCa, type TestCertificate, testCa } from '../support/pem.ts';
import { scratchDirectory } from '../support/scratch.ts';

const DAY_MS = 86_400_000;
const inDays = (days: number): Date => new Date(Date.now() + days * DAY_MS);

let ca: TestCa;
let former: TestCertificate;
let lab: LabKacme;

beforeEach(async () => {
  ca = testCa();
  former = ca.issue(['site.test', 'www.site.test'], { notAfter: inDays(40) });
  lab = await labKacme({ hosts: 2, bundlePem: former.bundlePem });
});
afterEach(() => lab?.close());

async function adopt(...args: string[]): Promise<{ status: number | null; summary: AdoptionSummary }> {
  const { status, stdout, stderr } = await lab.kacme.run('adopt', '--json', ...args);
  if (stdout === '') throw new Error(`kacme adopt says: ${stderr}`);
  return { status, summary: JSON.parse(stdout) as AdoptionSummary };
}

async function theCertificate(): Promise<CertificateStatus> {
  const [certificate] = (await lab.kacme.status()).certificates;
  if (certificate === undefined) throw new Error('the lab has no certificate');
  return certificate;
}

function hostNumber(index: number): TestHost {
  const host = lab.fleet.hosts[index];
  if (host === undefined) throw new Error(`the lab has no host ${index}`);
  return host;
}

async function give(host: TestHost, { bundlePem }: Pick<TestCertificate, 'bundlePem'>): Promise<void> {
  await host.haproxy.stop();
  await writeFile(host.certPath, bundlePem);
  await host.haproxy.start();
}

describe('from hosts', () => {
  test('what they hold is renewed by kacme from now on, and nothing is ordered', async () => {
    const { status, summary } = await adopt('--from', 'hosts');
    expect(status).toBe(0);
    expect(summary).toMatchObject({
      outcome: 'done',
      certificates: [{ action: 'adopted', reason: expect.stringContaining('adopted from ') }],
      places: [
        { action: 'left', inSync: true },
        { action: 'left', inSync: true },
      ],
      problems: [],
    });
    const service = await lab.kacme.serve();
    const { certificates, hosts } = await lab.kacme.settled();
    expect(certificates).toMatchObject([
      { state: 'valid', fingerprint256: former.fingerprint256, next: expect.stringMatching(/^waits until/) },
    ]);
    expect(hosts.map(({ places }) => places[0]?.state)).toEqual(['in sync', 'in sync']);
    expect(service.log().map(({ msg }) => msg)).not.toContain('issuance started');
    expect(await lab.served()).toEqual([former.fingerprint256, former.fingerprint256]);
  });

  test('of several the one that lasts longest goes to every host, through the running service', async () => {
    const longer = ca.issue(['site.test'], { notAfter: inDays(60) });
    await give(hostNumber(1), longer);
    // Else the service would order: it holds nothing yet.
    await lab.pebble.stop();
    await lab.kacme.serve();

    const { status, summary } = await adopt('--from', 'hosts');

    expect({ status, certificates: summary.certificates }).toMatchObject({
      status: 0,
      certificates: [{ action: 'adopted' }],
    });
    await lab.kacme.settled();
    expect(await lab.served()).toEqual([longer.fingerprint256, longer.fingerprint256]);
  });

  test('a dry run tells what would be adopted and leaves the store as it is', async () => {
    const { summary } = await adopt('--from', 'hosts', '--dry-run');
    expect(summary).toMatchObject({ certificates: [{ action: 'planned' }], places: [] });
    expect(await theCertificate()).toMatchObject({ state: 'missing', generation: 0 });
  });

  test('a host that is down makes it partly done, and is named with the reason', async () => {
    await hostNumber(1).sshd.stop();
    const { status, summary } = await adopt('--from', 'hosts');
    expect(status).toBe(3);
    expect(summary).toMatchObject({
      certificates: [{ action: 'adopted' }],
      problems: [
        {
          where: `lb/${hostNumber(1).address}`,
          failure: { code: 'ERR_HOST_UNREACHABLE' },
        },
      ],
    });
  });

  test.each([
    {
      what: 'a name that is configured is not covered',
      days: [-1, 40],
      names: ['other.test'],
      says: 'does not cover site.test',
    },
    { what: 'it has expired', days: [-80, -1], names: ['site.test'], says: 'expired at' },
  ])('nothing is adopted when $what', async ({ days: [from = 0, to = 0], names, says }) => {
    const unfit = ca.issue(names, { notBefore: inDays(from), notAfter: inDays(to) });
    for (const host of lab.fleet.hosts) await give(host, unfit);
    const { summary } = await adopt('--from', 'hosts');
    expect(summary).toMatchObject({
      outcome: 'done',
      certificates: [{ action: 'kept', reason: expect.stringContaining(says) }],
    });
    expect(await theCertificate()).toMatchObject({ state: 'missing' });
  });
});

describe('from the directory of another client', () => {
  async function legoDirectory(): Promise<string> {
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const directory = join(scratch.path, 'lego');
    await runLego({
      pebble: lab.pebble,
      directory,
      names: ['site.test'],
      answer: { listen: lab.challengeListen },
    });
    return directory;
  }

  const fingerprintOf = async (path: string) =>
    new X509Certificate(await readFile(path)).fingerprint256.replaceAll(':', '').toLowerCase();

  test("lego's certificate and account are adopted, and stay when they are asked for again", async () => {
    const directory = await legoDirectory();
    expect((await adopt('--from', `lego:${directory}`, '--dry-run')).summary).toMatchObject({
      certificates: [{ action: 'planned' }],
      accounts: [{ issuer: 'pebble', action: 'planned' }],
    });
    const { summary } = await adopt('--from', `lego:${directory}`);
    expect(summary).toMatchObject({
      certificates: [{ action: 'adopted' }],
      accounts: [
        { issuer: 'pebble', action: 'adopted', reason: expect.stringContaining('recovered by its key') },
      ],
      problems: [],
    });
    const shown = await lab.kacme.run('account', 'show', '--json');
    expect(shown.stdout).toContain((summary.accounts[0]?.reason ?? '').split(' ')[1]);
    expect(await theCertificate()).toMatchObject({
      state: 'valid',
      issuer: 'pebble',
      fingerprint256: await fingerprintOf(join(directory, 'certificates', 'site.test.crt')),
    });
    expect((await adopt('--from', `lego:${directory}`)).summary).toMatchObject({
      certificates: [{ action: 'kept', reason: expect.stringContaining("holds a CA's certificate") }],
      accounts: [{ action: 'adopted', reason: expect.stringContaining('nothing changed') }],
    });
  });

  test('with --complete, what cannot be taken over and an account that its CA does not confirm fail', async () => {
    const outer = await scratchDirectory();
    onTestFinished(outer.remove);
    // As in Kolla: one of lego's paths for each certificate.
    const [external, internal] = [join(outer.path, 'external'), join(outer.path, 'internal')];
    const lego = (directory: string, name: string) =>
      runLego({ pebble: lab.pebble, directory, names: [name], answer: { listen: lab.challengeListen } });
    const ask = (...args: string[]) => adopt('--complete', '--from', `lego:${outer.path}`, ...args);
    await lego(external, 'site.test');

    const [server = ''] = await readdir(join(external, 'accounts'));
    const keyPath = join(external, 'accounts', server, 'ops@example.org/keys/ops@example.org.key');
    const key = await readFile(keyPath);
    await writeFile(keyPath, ca.issue(['no.account']).keyPem);
    expect(await ask('--dry-run')).toMatchObject({
      status: 1,
      summary: {
        certificates: [{ action: 'planned' }],
        accounts: [{ action: 'failed', failure: { code: 'ERR_ACCOUNT_UNKNOWN' } }],
      },
    });
    await writeFile(keyPath, key);

    await rename(join(external, 'certificates'), join(outer.path, 'kept-back'));
    await lego(internal, 'other.test');
    expect(await ask('--dry-run')).toMatchObject({
      status: 1,
      summary: {
        certificates: [{ action: 'failed', failure: { code: 'ERR_ADOPTION_INCOMPLETE' } }],
        accounts: [{ action: 'planned' }],
      },
    });
    expect((await adopt('--from', `lego:${outer.path}`)).status).toBe(0);

    await rename(join(outer.path, 'kept-back'), join(external, 'certificates'));
    const of = (suffix: string) => readFile(join(external, 'certificates', `site.test.${suffix}`), 'utf8');
    for (const host of lab.fleet.hosts)
      await give(host, { bundlePem: (await of('crt')) + (await of('key')) });
    expect(await ask('--dry-run')).toMatchObject({ status: 0 });
    await hostNumber(1).sshd.stop();
    expect(await ask()).toMatchObject({ status: 3, summary: { certificates: [{ action: 'adopted' }] } });
    expect(await ask()).toMatchObject({ status: 0, summary: { certificates: [{ action: 'kept' }] } });
  });

  test("certbot's certificate and account are adopted where they lie now, also after its directory was moved", async () => {
    const lego = await legoDirectory();
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const certificate = join(lego, 'certificates', 'site.test');
    await mkdir(join(scratch.path, 'renewal'));
    await mkdir(join(scratch.path, 'live', 'site.test'), { recursive: true });
    await writeFile(
      join(scratch.path, 'renewal', 'site.test.conf'),
      [
        '# renew_before_expiry = 30 days',
        'fullchain = /etc/letsencrypt/live/site.test/fullchain.pem',
        'privkey = /etc/letsencrypt/live/site.test/privkey.pem',
        '[renewalparams]',
        `server = ${lab.pebble.directoryUrl}`,
        '',
      ].join('\n'),
    );
    const fingerprint256 = await fingerprintOf(`${certificate}.crt`);
    const legoAccounts = join(
      lego,
      'accounts',
      ...(await readdir(join(lego, 'accounts'))),
      'ops@example.org',
    );
    const own = join(scratch.path, 'accounts', 'ca.test', 'dir', '0123abcd');
    await mkdir(own, { recursive: true });
    const { registration } = JSON.parse(await readFile(join(legoAccounts, 'account.json'), 'utf8')) as {
      registration: { uri: string };
    };
    const key = createPrivateKey(await readFile(join(legoAccounts, 'keys', 'ops@example.org.key')));
    await writeFile(join(own, 'regr.json'), JSON.stringify({ body: {}, uri: registration.uri }));
    await writeFile(join(own, 'private_key.json'), JSON.stringify(key.export({ format: 'jwk' })));
    await rename(`${certificate}.crt`, join(scratch.path, 'live', 'site.test', 'fullchain.pem'));
    await rename(`${certificate}.key`, join(scratch.path, 'live', 'site.test', 'privkey.pem'));

    const { summary } = await adopt('--from', `certbot:${scratch.path}`);

    expect(summary).toMatchObject({
      certificates: [{ action: 'adopted' }],
      accounts: [{ action: 'adopted', reason: expect.stringContaining(registration.uri) }],
      problems: [],
    });
    expect(await theCertificate()).toMatchObject({ issuer: 'pebble', fingerprint256 });
  });

  test('a key that does not fit and a file that cannot be read are told of, and no key is quoted', async () => {
    const directory = await legoDirectory();
    const at = (name: string) => join(directory, 'certificates', name);
    const key = await readFile(at('site.test.key'), 'utf8');
    await writeFile(at('site.test.key'), ca.issue(['site.test']).keyPem);
    for (const suffix of ['crt', 'key']) await writeFile(at(`broken.${suffix}`), key);
    await writeFile(at('broken.json'), key);
    const { stdout, stderr } = await lab.kacme.run('adopt', '--from', `lego:${directory}`);
    expect(stdout).toContain('its private key does not fit its certificate');
    expect(stdout).toMatch(/broken\.crt +it is not JSON/);
    expect(`${stdout}${stderr}`).not.toContain(key.split('\n')[1]);
  });

  test('a directory without any of it is refused with what is expected there', async () => {
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const { status, stderr } = await lab.kacme.run('adopt', '--from', `lego:${scratch.path}`);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /there is neither a certificate nor an account in it[\s\S]*what to do: .*certificates\/ and accounts\//,
    );
    expect(await readdir(scratch.path)).toEqual([]);
    expect(await lab.kacme.run('adopt', '--from', 'acme.sh:/root/.acme.sh')).toMatchObject({ status: 2 });
  });
});
