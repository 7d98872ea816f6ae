import { createHash } from 'node:crypto';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { renderMoment } from '../../src/cli/render/time.ts';
import type { PlaceResult, Summary } from '../../src/domain/status.ts';
import { eventually } from '../support/eventually.ts';
import { startHaproxy } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { type Finished, SEEN_AT, type TestService } from '../support/kacme.ts';
import { type LabKacme, type LabOptions, labKacme } from '../support/lab-kacme.ts';
import { selfSigned, type TestCertificate } from '../support/pem.ts';
import { scratchDirectory } from '../support/scratch.ts';

async function lab(options: LabOptions): Promise<LabKacme> {
  const made = await labKacme({ hosts: 3, ...options });
  onTestFinished(made.close);
  return made;
}

const placesOf = ({ stdout }: Finished) => (JSON.parse(stdout) as Summary).places;

/** One canary failed with `code`; the others were told that it did, and until when nobody follows. */
function expectHalted(places: readonly PlaceResult[], code: string): { canary: PlaceResult; until: Date } {
  const [canary, ...more] = places.filter(({ action }) => action === 'failed');
  if (canary === undefined) throw new Error(`nobody failed: ${JSON.stringify(places)}`);
  expect(more).toEqual([]);
  expect(canary.failure).toMatchObject({ code });
  const others = places.filter((place) => place !== canary);
  expect(others).toHaveLength(2);
  const halted = /^rollout halted until (\S+Z): (.*)$/;
  for (const { action, inSync, reason } of others) {
    expect({ action, inSync }).toEqual({ action: 'left', inSync: false });
    expect(reason).toMatch(halted);
    expect(reason).toContain(canary.failure?.message);
  }
  return { canary, until: new Date(halted.exec(others[0]?.reason ?? '')?.[1] ?? '') };
}

/** As before, on every host: file, directory and memory. Keys are compared by digest, so that a failure shows none. */
async function expectUntouched(hosts: readonly TestHost[], old: TestCertificate): Promise<void> {
  for (const { certPath, haproxy } of hosts) {
    expect(digest(await readFile(certPath, 'utf8'))).toBe(digest(old.bundlePem));
    expect(await readdir(dirname(certPath))).toEqual(['haproxy.pem']);
    const loaded = await haproxy.command(`show ssl cert ${SEEN_AT}/certs/haproxy.pem`);
    const fingerprint1 = old.certificate.fingerprint.replaceAll(':', '');
    expect(loaded).toContain(`SHA1 FingerPrint: ${fingerprint1}`);
    expect(await haproxy.command('show ssl cert')).not.toContain('# transaction');
  }
}

const digest = (text: string) => createHash('sha256').update(text).digest('hex');

test('a bundle that HAProxy refuses: the old one is back, nobody follows, an operator tries again at once', async () => {
  const policy = await scratchDirectory();
  onTestFinished(policy.remove);
  // The hosts' OpenSSL takes no key below 192 bits of security: not the RSA-2048 of a bootstrap.
  const strict = join(policy.path, 'openssl.cnf');
  const write = (level: number) =>
    writeFile(
      strict,
      `openssl_conf = c\n[c]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\nCipherString = DEFAULT@SECLEVEL=${level}\n`,
    );
  await write(4);
  await chmod(policy.path, 0o755);
  await chmod(strict, 0o644);
  const old = selfSigned('site.test', { keyType: 'ecdsa-p384' });
  const made = await lab({ bundlePem: old.bundlePem, haproxy: { env: { OPENSSL_CONF: strict } } });
  const { kacme, fleet, served } = made;

  const first = await kacme.run('bootstrap', '--json');
  expect(first.status).toBe(1);
  const { canary, until } = expectHalted(placesOf(first), 'ERR_HAPROXY_REFUSED');
  expect(canary.failure?.message).toMatch(
    /^lb\/\S+: commit certificate \/srv\/certs\/haproxy\.pem: Committing .*Failed! Undone: .*holds its previous content again$/,
  );
  expect(until.getTime()).toBeGreaterThan(Date.now());
  await expectUntouched(made.fleet.hosts, old);

  expect(canary.failure?.remedy).toMatch(/HAProxy's log.*certificates\.NAME\.key/);

  const { status, stdout } = await kacme.run('status');
  expect(status).toBe(3);
  const rows = stdout
    .split('\n')
    .filter((line) => line.includes(`rollout halted until ${renderMoment(until.toISOString())}: `));
  expect(rows).toHaveLength(3);
  expect(stdout).toContain(`host ${canary.host} of lb (site): ERR_HAPROXY_REFUSED\n`);

  // Asked again, kacme does not wait, and still risks one host only; the next pause is longer.
  const second = await kacme.run('distribute', '--json');
  expect(second.status).toBe(1);
  const again = expectHalted(placesOf(second), 'ERR_HAPROXY_REFUSED');
  expect(again.until.getTime()).toBeGreaterThan(until.getTime() + 60_000);
  await expectUntouched(made.fleet.hosts, old);

  await write(2);
  for (const { haproxy } of fleet.hosts) {
    await haproxy.stop();
    await haproxy.start();
  }
  expect(await kacme.run('distribute')).toMatchObject({ status: 0 });
  const now = new Set(await served());
  expect(now.size).toBe(1);
  expect(now).not.toContain(old.fingerprint256);
});

test('an old HAProxy that still listens: the old bundle is back, the rollout halts over a restart, and recovers', async () => {
  const old = selfSigned('site.test');
  const made = await lab({
    bundlePem: old.bundlePem,
    // Each handshake meets either process: so many meet both.
    overlay: { pools: { lb: { verify: { handshakes: 40 } } } },
  });
  const { kacme, fleet, served } = made;
  const intruders = await Promise.all(
    fleet.hosts.map(({ address, haproxy }) =>
      startHaproxy({ address, tlsPort: haproxy.tlsPort, bundlePem: selfSigned('site.test').bundlePem }),
    ),
  );
  onTestFinished(async () => void (await Promise.all(intruders.map((intruder) => intruder.close()))));

  const first = await kacme.run('bootstrap', '--json');
  expect(first.status).toBe(1);
  const { canary } = expectHalted(placesOf(first), 'ERR_HOST_UNVERIFIED');
  expect(canary.failure?.message).toMatch(
    /: verify: \d+ of 40 handshakes with \S+ presented SHA-256 .*an old worker may still be listening\. Undone: HAProxy has the previous bundle in memory again; .*previous content again$/,
  );
  expect(canary.failure?.remedy).toContain('ss -ltnp');
  await expectUntouched(made.fleet.hosts, old);

  await made.pebble.stop();
  await kacme.serve();
  await eventually('every host says why it waits', async () => {
    const { hosts } = await kacme.status();
    return hosts.every(({ places }) =>
      /^rollout halted until \S+Z: .*handshakes/.test(places[0]?.reason ?? ''),
    );
  });
  expect((await kacme.run('status')).status).toBe(3);
  await expectUntouched(made.fleet.hosts, old);

  await Promise.all(intruders.map((intruder) => intruder.stop()));
  const recovered = await kacme.run('distribute', '--json');
  expect(recovered.status).toBe(0);
  expect(placesOf(recovered).every(({ inSync }) => inSync)).toBe(true);
  const now = new Set(await served());
  expect(now.size).toBe(1);
  expect(now).not.toContain(old.fingerprint256);
});

test('a host that does not present the bundle is left alone for a while, over a restart too, until it was away', async () => {
  const old = selfSigned('site.test');
  const made = await lab({
    hosts: 2,
    bundlePem: old.bundlePem,
    overlay: { pools: { lb: { verify: { handshakes: 40 } } } },
  });
  const { kacme, fleet, pebble } = made;
  const [well, odd] = fleet.hosts;
  if (well === undefined || odd === undefined) throw new Error('there are two hosts');
  await odd.sshd.stop();
  expect(await kacme.run('bootstrap')).toMatchObject({ status: 3 });
  const { address, haproxy } = odd;
  const intruder = await startHaproxy({
    address,
    tlsPort: haproxy.tlsPort,
    bundlePem: selfSigned('site.test').bundlePem,
  });
  onTestFinished(() => intruder.close());
  await odd.sshd.start();
  await pebble.stop();
  const placeOf = async () => (await kacme.status()).hosts.find(({ host }) => host === address);
  const looks = async () => {
    const seen = new Set<string | undefined>();
    await eventually('it was looked at some more', async () => {
      const host = await placeOf();
      expect(host?.places).toMatchObject([
        { failure: { code: 'ERR_HOST_UNVERIFIED' }, retryAt: expect.stringMatching(/Z$/) },
      ]);
      return seen.add(host?.observedAt).size > 3;
    });
  };
  const changes = (service: TestService) =>
    service.log().filter(({ msg, host }) => msg === 'change decided' && host === address);

  const service = await kacme.serve();
  await service.logged('change failed', { host: address });
  await looks();
  expect(changes(service)).toHaveLength(1);
  const { stdout } = await kacme.run('status');
  expect(stdout).toContain(`host ${address} of lb (site): ERR_HOST_UNVERIFIED\n`);
  expect(stdout).toMatch(/what happens next: kacme tries again at .*; `kacme distribute` does so at once/);
  await service.stop();

  const restarted = await kacme.serve();
  await restarted.logged('place state changed', { host: address });
  await looks();
  expect(changes(restarted)).toEqual([]);
  await expectUntouched([odd], old);

  await odd.sshd.stop();
  await restarted.logged('host cannot be observed', { host: address });
  await intruder.stop();
  await odd.sshd.start();
  await restarted.logged('place state changed', { host: address, state: 'in sync' });
  expect(await odd.haproxy.servedFingerprint256('site.test')).toBe(
    await well.haproxy.servedFingerprint256('site.test'),
  );
});

test('a canary that is well and others that are not: after two the rest is left alone, and all recover', async () => {
  const old = selfSigned('site.test');
  const made = await lab({
    hosts: 5,
    bundlePem: old.bundlePem,
    overlay: { pools: { lb: { parallel: 1, stopAfter: 2, verify: { handshakes: 40 } } } },
  });
  const { kacme, fleet, served } = made;
  const [well, ...others] = fleet.hosts;
  if (well === undefined) throw new Error('there are five hosts');
  // Who cannot be reached keeps nobody waiting, and is nobody's canary.
  await Promise.all(others.map(({ sshd }) => sshd.stop()));
  const first = await kacme.run('bootstrap', '--json');
  expect(first.status).toBe(3);
  const reached = placesOf(first).filter(({ failure }) => failure?.code !== 'ERR_HOST_UNREACHABLE');
  expect(reached).toMatchObject([{ host: well.address, action: 'swapped', inSync: true }]);

  const intruders = await Promise.all(
    others.map(({ address, haproxy: { tlsPort } }) =>
      startHaproxy({ address, tlsPort, bundlePem: selfSigned('site.test').bundlePem }),
    ),
  );
  onTestFinished(async () => void (await Promise.all(intruders.map((intruder) => intruder.close()))));
  await Promise.all(others.map(({ sshd }) => sshd.start()));

  const second = await kacme.run('distribute', '--json');
  expect(second.status).toBe(3);
  const places = placesOf(second);
  const failed = places.filter(({ action }) => action === 'failed');
  expect(failed.map(({ failure }) => failure?.code)).toEqual(['ERR_HOST_UNVERIFIED', 'ERR_HOST_UNVERIFIED']);
  const halted = places.filter(({ reason }) => reason.startsWith('rollout halted until '));
  expect(halted).toMatchObject([
    { action: 'left', inSync: false },
    { action: 'left', inSync: false },
  ]);
  const causes = failed.map(({ failure }) => failure?.message);
  for (const { reason } of halted)
    expect(causes).toContain(reason.replace(/^rollout halted until \S+Z: /, ''));
  await expectUntouched(others, old);
  expect(await well.haproxy.servedFingerprint256('site.test')).not.toBe(old.fingerprint256);

  await Promise.all(intruders.map((intruder) => intruder.stop()));
  expect(await kacme.run('distribute')).toMatchObject({ status: 0 });
  expect(new Set(await served()).size).toBe(1);
});
