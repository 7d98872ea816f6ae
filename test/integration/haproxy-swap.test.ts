import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { certificatesIn, factsOf } from '../../src/domain/x509.ts';
import { selfSigned, testCa } from '../support/pem.ts';
import { signalAll } from '../support/process.ts';
import { startTlsLoad } from '../support/tls-load.ts';
import { describeEachHaproxy } from './haproxy-fixture.ts';

const onlyTheBundle = async (path: string) => expect(await readdir(dirname(path))).toEqual(['haproxy.pem']);

describeEachHaproxy((haproxyLab) => {
  test('a new bundle is in the file, in memory and on the next handshake, without a reload', async () => {
    const lab = await haproxyLab();
    const pids = lab.host.haproxy.pids();
    const next = testCa().issue(['lb.test']);

    expect(await lab.apply(next)).toEqual({ state: 'verified', handshakes: 4 });

    expect(await lab.served()).toBe(next.fingerprint256);
    expect(await lab.pem()).toBe(next.bundlePem);
    expect(lab.host.haproxy.pids()).toEqual(pids);
    expect((await stat(lab.host.certPath)).mode & 0o777).toBe(0o600);
    await onlyTheBundle(lab.host.certPath);
    expect(lab.logged()).toContain('host changed');
    expect(lab.logged()).not.toContain('BEGIN');
  });

  test('an RSA bundle with a chain of two replaces an ECDSA one, and an ECDSA one that', async () => {
    const lab = await haproxyLab();
    const issuing = testCa().intermediate('Issuing CA').intermediate('Issuing CA 2');
    for (const keyType of ['rsa-2048', 'ecdsa-p384'] as const) {
      const next = issuing.issue(['lb.test'], { keyType });
      expect(await lab.apply(next)).toMatchObject({ state: 'verified' });
      expect(await lab.served()).toBe(next.fingerprint256);
    }
  });

  test('the master socket alone serves every need, and tells the number of workers', async () => {
    const lab = await haproxyLab({
      pool: ({ haproxy }) => ({ haproxy: { socket: undefined, masterSocket: haproxy.masterSocketPath } }),
    });
    const next = testCa().issue(['lb.test']);
    expect(await lab.apply(next)).toMatchObject({ state: 'verified' });
    expect(await lab.served()).toBe(next.fingerprint256);

    const observe = () => lab.haproxy.observe([lab.deployment], { signal: AbortSignal.timeout(5_000) });
    expect((await observe()).haproxy).toMatchObject({
      state: 'running',
      bufferBytes: 16_384,
      workers: { current: 1, old: 0, listening: [] },
    });
    await lab.host.haproxy.stop();
    expect((await observe()).haproxy).toMatchObject({ state: 'stopped' });
  });

  test('what a host holds is observed: file, copies, memory, version, buffer', async () => {
    const lab = await haproxyLab({ host: { haproxy: { bufferBytes: 32_768 } } });
    const copy = join(dirname(lab.host.certPath), 'copy.pem');
    const deployment = { ...lab.deployment, copies: [copy] };
    const { haproxy, places } = await lab.haproxy.observe([deployment], {
      signal: AbortSignal.timeout(5_000),
    });

    expect(haproxy).toEqual({
      state: 'running',
      version: await lab.host.haproxy.version(),
      worker: { pid: lab.host.haproxy.pids()[1], startedMs: expect.any(Number) },
      bufferBytes: 32_768,
      pendingTransaction: undefined,
      workers: undefined,
    });
    const [leaf] = certificatesIn(lab.old.bundlePem);
    const facts = leaf && factsOf(leaf);
    expect(places[deployment.path]).toMatchObject({
      file: { state: 'present', mode: 0o600, content: { state: 'loadable', facts } },
      copies: [{ state: 'absent' }],
      loaded: { fingerprint1: facts?.fingerprint1, notAfter: facts?.notAfter, selfSigned: true },
    });
  });

  test('a file that HAProxy could not load is observed as broken, with the reason', async () => {
    const lab = await haproxyLab();
    await writeFile(lab.host.certPath, lab.old.certPem);
    expect((await lab.observe()).file).toMatchObject({
      content: { state: 'broken', reason: 'it holds no private key' },
    });
  });

  test('copies are replaced like the file, and the configured mode is there from the moment of renaming', async () => {
    const lab = await haproxyLab();
    const copy = join(dirname(lab.host.certPath), 'copy.pem');
    const next = selfSigned('lb.test');
    await lab.apply(next, { deployment: { copies: [copy], mode: 0o640 } });
    for (const path of [copy, lab.host.certPath]) {
      expect(await readFile(path, 'utf8')).toBe(next.bundlePem);
      expect((await stat(path)).mode & 0o777).toBe(0o640);
    }
  });

  test('with HAProxy stopped only the file is written, and HAProxy then starts with it', async () => {
    const lab = await haproxyLab({ host: { haproxy: { started: false } } });
    await rm(lab.host.certPath);
    const { haproxy } = await lab.haproxy.observe([lab.deployment], { signal: AbortSignal.timeout(5_000) });
    expect(haproxy).toMatchObject({ state: 'stopped', reason: expect.stringContaining('sshd refuses') });

    const first = selfSigned('lb.test');
    expect(await lab.apply(first, { means: 'install', verifyServername: undefined })).toMatchObject({
      state: 'unverified',
    });
    await lab.host.haproxy.start();
    expect(await lab.served()).toBe(first.fingerprint256);
    await onlyTheBundle(lab.host.certPath);
  });

  test('a HAProxy that takes the connection and says nothing is a failure, not called stopped', async () => {
    const lab = await haproxyLab();
    const frozen = lab.host.haproxy.pids();
    signalAll(frozen, 'SIGSTOP');
    onTestFinished(() => signalAll(frozen, 'SIGCONT'));
    const signal = AbortSignal.timeout(700);
    await expect(lab.haproxy.observe([lab.deployment], { signal })).rejects.toThrow(/timeout/);
  });

  test('memory alone is swapped where the file is right already', async () => {
    const lab = await haproxyLab();
    const next = selfSigned('lb.test');
    await writeFile(lab.host.certPath, next.bundlePem);
    await lab.apply(next, { writeFile: false });
    expect(await lab.served()).toBe(next.fingerprint256);
  });

  test('two hundred names and an unusual path name are no obstacle; a path with a space is refused by name', async () => {
    const lab = await haproxyLab();
    const names = ['lb.test', ...Array.from({ length: 199 }, (_, i) => `name-${i}.lb.test`)];
    await lab.apply(selfSigned(names));
    const path = join(dirname(lab.host.certPath), 'with space.pem');
    await expect(
      lab.apply(selfSigned('lb.test'), { deployment: { path, file: path } }),
    ).rejects.toMatchObject({
      code: 'ERR_HAPROXY_REFUSED',
      reason: expect.stringContaining('with space.pem'),
    });
    await onlyTheBundle(lab.host.certPath);
  });

  test('without a place to connect to, the swap is reported as unverified', async () => {
    const lab = await haproxyLab({
      pool: () => ({ verify: { connect: [], handshakes: 4, timeoutMs: 1_000 } }),
    });
    const next = selfSigned('lb.test');
    expect(await lab.apply(next)).toMatchObject({ state: 'unverified' });
    expect(await lab.served()).toBe(next.fingerprint256);
  });

  test('handshakes alone can be asked for: the right leaf, a wrong one, nobody there', async () => {
    const lab = await haproxyLab();
    const signal = AbortSignal.timeout(10_000);
    const verify = (fingerprint256: string) =>
      lab.haproxy.verify({ servername: 'lb.test', fingerprint256, family: undefined }, { signal });
    expect(await verify(lab.old.fingerprint256)).toEqual({ state: 'verified', handshakes: 4 });
    expect(await verify('ab'.repeat(32))).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(
        /^4 of 4 handshakes with .* presented SHA-256 .*, expected abababababab\.\.\.$/,
      ),
    });
    await lab.host.haproxy.stop();
    expect(await verify(lab.old.fingerprint256)).toMatchObject({
      state: 'failed',
      reason: expect.stringContaining('ECONNREFUSED'),
    });
  });

  test('one HAProxy in two pools is changed by one at a time: no bundle lands under the other path', async () => {
    const second = selfSigned('second.test');
    const lab = await haproxyLab({
      host: {
        haproxy: {
          certificates: { 'second.pem': second.bundlePem },
          // HAProxy knows it by a path relative to its working directory, SSH by an absolute one.
          bindArguments: 'crt certs/second.pem',
        },
      },
    });
    const file = join(dirname(lab.host.certPath), 'second.pem');
    const places = [
      { by: lab.haproxy, servername: 'lb.test', deployment: {} },
      { by: lab.inPool('other'), servername: 'second.test', deployment: { path: 'certs/second.pem', file } },
    ];
    await Promise.all(
      places.map(async ({ by, servername, deployment }) => {
        for (let i = 0; i < 10; i++) {
          const next = selfSigned(servername);
          const applied = await lab.apply(next, { by, deployment, verifyServername: servername });
          expect(applied).toMatchObject({ state: 'verified' });
          expect(await lab.host.haproxy.servedFingerprint256(servername)).toBe(next.fingerprint256);
        }
      }),
    );
  });

  test('clients that keep coming during twenty changes notice nothing', async () => {
    const lab = await haproxyLab();
    const { address, tlsPort: port } = lab.host.haproxy;
    const load = startTlsLoad([{ address, port, servername: 'lb.test' }], { workers: 4 });
    onTestFinished(async () => void (await load.stop()));
    for (let i = 0; i < 20; i++) await lab.apply(selfSigned('lb.test'));
    const { ok, failed, reasons } = await load.stop();
    expect({ failed, reasons }).toEqual({ failed: 0, reasons: {} });
    expect(ok).toBeGreaterThan(20);
  });
});
