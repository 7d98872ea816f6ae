import { generateKeyPairSync } from 'node:crypto';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { accountRecord, loadRecord } from '../../src/app/records.ts';
import type { AccountChange, AccountView } from '../../src/domain/account.ts';
import { accountKeyFacts } from '../../src/domain/account-key.ts';
import { createPki } from '../../src/pki/pki.ts';
import { FileStateStore } from '../../src/store/file-store.ts';
import { realClock } from '../contract/real-clock.ts';
import { type AcmeGate, startAcmeGate } from '../support/acme-gate.ts';
import { eventually } from '../support/eventually.ts';
import type { Side } from '../support/holds.ts';
import type { Finished } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';
import { type ScratchDirectory, scratchDirectory } from '../support/scratch.ts';
import { connect, effect, issuerSpec } from './acme-fixture.ts';

const KEY_CHANGE = /^\/rollover-account-key$/;

describe.each([
  { version: '2.4', renewalInfo: false },
  { version: '2.6', renewalInfo: true },
])('with Pebble $version', ({ renewalInfo }) => {
  let lab: LabKacme;
  let acme: AcmeGate;
  let scratch: ScratchDirectory;

  beforeAll(async () => {
    scratch = await scratchDirectory();
    lab = await labKacme({
      bundlePem: selfSigned('site.test').bundlePem,
      pebble: { reuseAuthorizations: 0, renewalInfo },
    });
    acme = await startAcmeGate(lab.pebble);
    await lab.kacme.overlay({ issuers: { pebble: { directory: acme.directoryUrl, caFile: acme.caFile } } });
  });
  afterAll(async () => {
    await lab?.close();
    await acme?.close();
    await scratch?.remove();
  });

  const account = (...args: string[]) => lab.kacme.run('account', ...args);

  async function serve() {
    const service = await lab.kacme.serve();
    onTestFinished(() => service.stop());
    return service;
  }

  async function shown(): Promise<AccountView> {
    const { stdout, stderr } = await account('show', '--json');
    const [view] = JSON.parse(stdout) as readonly AccountView[];
    if (view === undefined) throw new Error(`no account shown: ${stderr}`);
    return view;
  }

  async function changed(...args: string[]): Promise<AccountChange> {
    const { status, stdout, stderr } = await account(...args, '--json');
    if (status !== 0) throw new Error(`kacme account ${args.join(' ')} ended with ${status}: ${stderr}`);
    return JSON.parse(stdout) as AccountChange;
  }

  async function storedAccount() {
    const store = await FileStateStore.open(lab.kacme.storePath, { clock: realClock, readOnly: true });
    try {
      const id: [string, string] = ['pebble', acme.directoryUrl];
      return (await loadRecord(store, accountRecord, id, { signal: AbortSignal.timeout(5_000) }))?.value;
    } finally {
      await store.close();
    }
  }

  async function renews(): Promise<void> {
    const renew = await lab.kacme.run('renew', '--force');
    expect(renew, renew.stderr).toMatchObject({ status: 0 });
  }

  test('show tells that there is no account yet, and makes none', async () => {
    expect(await account('show')).toMatchObject({ status: 0, stdout: expect.stringContaining('none yet') });
    expect(await shown()).toMatchObject({
      state: 'none',
      externalAccountRequired: false,
      termsOfService: expect.stringMatching(/^data:|^http/),
    });
    expect(acme.passed.filter(({ status }) => status === 201)).toEqual([]);
  });

  test('register makes it at once, and changes nothing when there is one', async () => {
    const { account: made } = await changed('register', 'pebble');
    expect(made).toMatchObject({ state: 'valid', url: expect.stringMatching(/^https:/) });
    const again = await changed('register', 'pebble');
    expect(again.done).toContain('nothing changed');
    expect(again.account.url).toBe(made.url);
  });

  test('show prints URL, contacts and the thumbprint of the key, but not the key', async () => {
    const { stdout, status } = await account('show', 'pebble');
    const { url, key } = await shown();
    expect(status).toBe(0);
    for (const part of [url, 'mailto:ops@example.org', 'ecdsa-p256', key?.thumbprint])
      expect(stdout).toContain(part);
    const { keyPem = '' } = (await storedAccount()) ?? {};
    expect(key?.thumbprint).toBe(accountKeyFacts(keyPem).thumbprint);
    expect(stdout).not.toContain('PRIVATE');
  });

  test('an issuer that is not configured is named with those that are, exit 2', async () => {
    const { status, stderr } = await account('rollover', 'pebbles');
    expect(status).toBe(2);
    expect(stderr).toContain('no issuer named pebbles');
    expect(stderr).toContain('name one of: pebble');
  });

  test('update gives the CA the contacts of the configuration', async () => {
    await lab.kacme.overlay({
      issuers: {
        pebble: { directory: acme.directoryUrl, caFile: acme.caFile, contact: ['mailto:new@example.org'] },
      },
    });
    const before = await shown();
    expect(before.contact).toEqual(['mailto:ops@example.org']);
    expect(before.notes).toEqual([expect.stringContaining('kacme account update pebble')]);
    const { account: after } = await changed('update', 'pebble');
    expect(after).toMatchObject({ contact: ['mailto:new@example.org'], notes: [] });
  });

  test('rollover changes the key and nothing else of the account, and the next order goes through', async () => {
    const before = await shown();
    const { account: after } = await changed('rollover', 'pebble');
    expect(after.url).toBe(before.url);
    expect(after.key?.thumbprint).not.toBe(before.key?.thumbprint);
    expect((await storedAccount())?.nextKeyPem).toBeUndefined();
    await renews();
  });

  test('rollover goes through the running service, which goes on with the new key', async () => {
    const service = await serve();
    await lab.kacme.settled();
    const before = await shown();
    const { account: after } = await changed('rollover', 'pebble');
    expect(after.url).toBe(before.url);
    expect(after.key?.thumbprint).not.toBe(before.key?.thumbprint);
    await renews();
    await service.stop();
    expect(service.output()).not.toContain('PRIVATE KEY');
  });

  test('rollover waits for an order under way', async () => {
    await serve();
    await lab.kacme.settled();
    const { reached, release } = acme.hold(/^\/finalize-order\//, 'before');
    const renewal = lab.kacme.run('renew', '--force');
    await reached;
    const rollover = lab.kacme.start('account', 'rollover', 'pebble');
    await eventually('the service has the command', () =>
      rollover.output().includes('pebble: account rollover'),
    );
    release();
    expect(await renewal).toMatchObject({ status: 0 });
    expect(await rollover.finished).toMatchObject({ status: 0 });
    const paths = acme.passed.map(({ path }) => path);
    const finalized = paths.findLastIndex((path) => path.startsWith('/finalize-order/'));
    expect(paths.findLastIndex((path) => KEY_CHANGE.test(path))).toBeGreaterThan(finalized);
  });

  test.each<{ at: string; side: Side }>([
    { at: 'before the CA has the request', side: 'before' },
    { at: 'before the answer of the CA', side: 'after' },
  ])('rollover killed with SIGKILL $at is finished by the next start', async ({ side }) => {
    const service = await serve();
    await lab.kacme.settled();
    const before = await shown();
    const { reached, release } = acme.hold(KEY_CHANGE, side);
    const rollover = account('rollover', 'pebble');
    await reached;
    service.signal('SIGKILL');
    await service.exited;
    release();
    expect(await rollover).toMatchObject({ status: 1 });
    const between = await shown();
    expect(between).toMatchObject({ state: 'valid', url: before.url });
    expect(between.notes).toEqual([expect.stringContaining('not finished')]);

    const restarted = await serve();
    await renews();
    await restarted.logged('account key changed');
    const after = await shown();
    expect(after).toMatchObject({ state: 'valid', url: before.url, notes: [] });
    expect(after.key?.thumbprint).not.toBe(before.key?.thumbprint);
  });

  test('deactivate needs --yes', async () => {
    const refused = await account('deactivate', 'pebble');
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('--yes') });
    expect(await shown()).toMatchObject({ state: 'valid' });
  });

  test('after deactivate nothing is ordered and nothing registered until register makes another account', async () => {
    const service = await serve();
    await lab.kacme.settled();
    const before = await shown();
    expect((await changed('deactivate', 'pebble', '--yes')).account.state).toBe('deactivated');
    expect((await changed('deactivate', 'pebble', '--yes')).done).toContain('before');
    const requests = acme.passed.length;
    const renew = await lab.kacme.run('renew', '--force');
    expect(renew.status).toBe(1);
    expect(renew.stdout).toContain('ERR_ACCOUNT_CLOSED');
    expect(renew.stdout).toContain('kacme account register pebble');
    expect(acme.passed.slice(requests).filter(({ path }) => path === '/sign-me-up')).toEqual([]);
    await service.stop();

    const show = await account('show');
    expect(show).toMatchObject({ status: 1, stdout: expect.stringContaining('deactivated') });
    const { account: made } = await changed('register', 'pebble');
    expect(made.state).toBe('valid');
    expect(made.url).not.toBe(before.url);
    expect(made.key?.thumbprint).not.toBe(before.key?.thumbprint);
    await renews();
  });

  describe('recover', () => {
    const keyFile = async (name: string, pem: string, mode = 0o600) => {
      const path = join(scratch.path, name);
      await writeFile(path, pem, { mode });
      await chmod(path, mode);
      return path;
    };
    const recover = (key: string, ...args: string[]): Promise<Finished> =>
      account('recover', 'pebble', '--key', key, ...args);
    const sec1 = () =>
      generateKeyPairSync('ec', { namedCurve: 'P-256' })
        .privateKey.export({ type: 'sec1', format: 'pem' })
        .toString();
    const pkcs1 = () =>
      generateKeyPairSync('rsa', { modulusLength: 2048 })
        .privateKey.export({ type: 'pkcs1', format: 'pem' })
        .toString();

    async function registeredElsewhere(keyPem: string): Promise<string> {
      const elsewhere = await connect(issuerSpec(acme.directoryUrl, { caFile: acme.caFile }), { keyPem });
      try {
        return await elsewhere.authority.ensureAccount(effect(AbortSignal.timeout(10_000)));
      } finally {
        await elsewhere.close();
      }
    }

    test.each([
      { kind: 'an ECDSA key as lego keeps it', make: sec1 },
      { kind: 'an RSA key as OpenSSL makes it', make: pkcs1 },
    ])('takes over the account of $kind, and the next order is its', async ({ make }) => {
      const pem = make();
      const url = await registeredElsewhere(pem);
      const key = await keyFile('account.key', pem);
      expect(await recover(key)).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/has account https:.*already.*--replace/s),
      });
      const recovered = await recover(key, '--replace');
      expect(recovered, recovered.stderr).toMatchObject({ status: 0 });
      expect(await shown()).toMatchObject({ state: 'valid', url });
      expect((await recover(key)).stdout).toContain('nothing changed');
      await renews();
      expect((await shown()).url).toBe(url);
    });

    test('of a key that the CA does not know changes nothing', async () => {
      const before = await shown();
      const stray = await keyFile('stray.key', await createPki().generateKey('ecdsa-p384'));
      const { status, stderr } = await recover(stray, '--replace');
      expect(status).toBe(1);
      expect(stderr).toContain('knows no account of this ecdsa-p384 key');
      expect(await shown()).toEqual(before);
    });

    test.each([
      { what: 'a file that others can read', make: sec1, mode: 0o644, says: 'permissions 0644' },
      { what: 'a file of the group', make: sec1, mode: 0o640, says: 'permissions 0640' },
      { what: 'what is no key', make: () => 'hello\n', mode: 0o600, says: 'cannot be parsed' },
    ])('refuses $what, exit 2, without quoting it', async ({ make, mode, says }) => {
      const pem = make();
      const { status, stderr } = await recover(await keyFile('bad.key', pem, mode), '--replace');
      expect(status).toBe(2);
      expect(stderr).toContain(says);
      expect(stderr).not.toContain(pem.trim().split('\n').at(1) ?? 'hello');
    });
  });
});
