import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import type { PlaceResult, Summary } from '../../src/domain/status.ts';
import { eventually } from '../support/eventually.ts';
import type { TestHost } from '../support/host.ts';
import { type Finished, SEEN_AT } from '../support/kacme.ts';
import { type LabKacme, type LabOptions, labKacme } from '../support/lab-kacme.ts';
import { giveTo } from '../support/ownership.ts';
import { selfSigned } from '../support/pem.ts';
import { labAccount } from '../support/programs.ts';

const run = promisify(execFile);
const old = selfSigned('site.test');

async function lab(options: LabOptions): Promise<LabKacme> {
  const made = await labKacme({ bundlePem: old.bundlePem, ...options });
  onTestFinished(made.close);
  return made;
}

interface Fault {
  readonly code: string;
  /** What follows the name of the host: step and cause. */
  readonly says: RegExp;
  readonly remedy: RegExp;
  readonly cause: (host: TestHost) => Promise<unknown>;
}

/** A shell command in the mount namespace of the host's sshd. */
const inHost = ({ sshd }: TestHost, command: string) =>
  run('nsenter', ['--mount', '--target', String(sshd.pids()[0]), 'sh', '-ec', command]);

const fillDisk = (host: TestHost) => {
  const { uid, gid } = labAccount();
  const certs = `${SEEN_AT}/certs`;
  return inHost(
    host,
    `mount -t tmpfs -o size=32k,uid=${uid},gid=${gid},mode=700 kacme ${certs}
    cp -p ${host.certPath} ${certs}/haproxy.pem
    head -c 28672 /dev/zero > ${certs}/filler`,
  );
};

const faults: Readonly<Record<string, Fault>> = {
  'login refused': {
    code: 'ERR_HOST_LOGIN_REFUSED',
    says: /: log in as haproxy with \S+id_ed25519: /,
    remedy: /authorized_keys of haproxy/,
    cause: ({ sshd }) => sshd.allowLogin(false),
  },
  'another host key': {
    code: 'ERR_HOST_KEY_CHANGED',
    says: /: check the host key: .*pinned is .*nothing was sent/,
    remedy: /reinstalled.*compare.*replace/,
    cause: ({ sshd }) => sshd.rotateHostKeys(),
  },
  'HAProxy without its socket': {
    code: 'ERR_HAPROXY_SOCKET',
    says: /: connect to HAProxy at \/srv\/haproxy\.sock: nothing answers there, yet HAProxy runs: .*presented/,
    remedy: /stats socket \/srv\/haproxy\.sock level admin.*PermitOpen/,
    cause: ({ haproxy }) => rm(haproxy.socketPath),
  },
  'a full disk': {
    code: 'ERR_HOST_DISK_FULL',
    says: /: .*\/srv\/certs\/.*the file system is full/,
    remedy: /free space/,
    cause: fillDisk,
  },
  'a directory that is not writable': {
    code: 'ERR_HOST_NOT_WRITABLE',
    says: /: .*\/srv\/certs\/.*permission denied for the account haproxy/,
    remedy: /make the directory \/srv\/certs writable/,
    cause: ({ certPath }) => chmod(dirname(certPath), 0o500),
  },
  'sshd stopped': {
    code: 'ERR_HOST_UNREACHABLE',
    says: /: connect: .*refused/,
    remedy: /sshd/,
    cause: ({ sshd }) => sshd.stop(),
  },
  'sshd frozen': {
    code: 'ERR_HOST_UNREACHABLE',
    says: /: await the SSH banner: no answer within 5000 ms/,
    remedy: /see that the host is up/,
    cause: async ({ sshd }) => {
      sshd.freeze();
      onTestFinished(() => sshd.thaw());
    },
  },
  'something else than sshd': {
    code: 'ERR_HOST_UNREACHABLE',
    says: /: await the SSH banner: .*after saying "HTTP\/1\.1 400 Bad Request"/,
    remedy: /an sshd \(not something else\) listens/,
    cause: async ({ address, sshd }) => {
      await sshd.stop();
      const impostor = createServer((socket) => {
        socket
          .on('error', () => socket.destroy())
          .resume()
          .end('HTTP/1.1 400 Bad Request\r\n\r\n');
      });
      impostor.listen(sshd.port, address);
      await once(impostor, 'listening');
      onTestFinished(async () => {
        impostor.close();
        await once(impostor, 'close');
      });
    },
  },
};

const summaryOf = ({ stdout }: Finished) => JSON.parse(stdout) as Summary;

const resultsAt = ({ places }: Summary, hosts: readonly TestHost[]): readonly PlaceResult[] =>
  hosts.map(({ address }) => {
    const place = places.find(({ host }) => host === address);
    if (place === undefined) throw new Error(`no result for ${address}`);
    return place;
  });

test('hosts that fail, each in a way of its own, are reported with the remedy; the others are served', async () => {
  const { kacme, fleet } = await lab({
    hosts: 2 + Object.keys(faults).length,
    overlay: { pools: { lb: { ssh: { connectTimeout: '5s' } } } },
  });
  const [first, second, ...failing] = fleet.hosts;
  if (first === undefined || second === undefined) throw new Error('two hosts are well');
  await Promise.all(Object.values(faults).map((fault, i) => fault.cause(failing[i] ?? first)));

  for (const command of ['bootstrap', 'distribute']) {
    const ended = await kacme.run(command, '--json');
    expect(ended.status).toBe(3);
    const summary = summaryOf(ended);
    expect(summary.outcome).toBe('partly');
    expect(resultsAt(summary, [first, second])).toMatchObject([{ inSync: true }, { inSync: true }]);
    Object.entries(faults).forEach(([what, { code, says, remedy }], i) => {
      const [place] = resultsAt(summary, failing.slice(i, i + 1));
      expect({ what, inSync: place?.inSync, code: place?.failure?.code }).toEqual({
        what,
        inSync: false,
        code,
      });
      expect(place?.failure?.message).toMatch(new RegExp(`^lb/${place?.host}\\b`));
      expect(place?.failure?.message).toMatch(says);
      expect(place?.failure?.remedy).toMatch(remedy);
    });
  }

  const text = await kacme.run('distribute');
  expect(text.status).toBe(3);
  for (const [i, { code, says, remedy }] of Object.values(faults).entries()) {
    const [subject, ...told] =
      text.stdout.split(`host ${failing[i]?.address} of lb (site): `)[1]?.split('\n') ?? [];
    expect(subject).toBe(code);
    expect(told[0]).toMatch(says);
    expect(told[1]).toMatch(remedy);
    expect(told[2]).toMatch(/what happens next: /);
  }
  expect(text.stdout).toMatch(/^partly: .*2 of 10 places in sync$/m);

  const [served] = await Promise.all([first.haproxy.servedFingerprint256('site.test')]);
  expect(served).not.toBe(old.fingerprint256);
  expect(await second.haproxy.servedFingerprint256('site.test')).toBe(served);
  const [refused, rekeyed, socketless, full, readOnly, down, frozen, alien] = failing;
  for (const host of [refused, rekeyed, readOnly, down, frozen, alien]) {
    expect(await readFile(host?.certPath ?? '', 'utf8')).toBe(old.bundlePem);
    expect(await readdir(dirname(host?.certPath ?? ''))).toEqual(['haproxy.pem']);
  }
  if (full === undefined || socketless === undefined) throw new Error('every fault has its host');
  const onFullDisk = await inHost(full, `ls ${SEEN_AT}/certs; cat ${SEEN_AT}/certs/haproxy.pem`);
  expect(onFullDisk.stdout).toBe(`filler\nhaproxy.pem\n${old.bundlePem}`);
  expect(await readdir(dirname(socketless.certPath))).toEqual(['haproxy.pem']);
  for (const { haproxy } of failing)
    expect(await haproxy.servedFingerprint256('site.test')).toBe(old.fingerprint256);
});

test.runIf(process.getuid?.() === 0)(
  'a file that the account may not read fails its own place; other certificates of the host go on',
  async () => {
    const more = selfSigned('more.test');
    const { kacme, fleet } = await lab({
      hosts: 1,
      haproxy: { moreBundles: ['more.pem'], certificates: { 'more.pem': more.bundlePem } },
      certificates: { site: ['site.test'], more: ['more.test'] },
      overlay: {
        deployments: ['site', 'more'].map((certificate) => ({
          certificate,
          pool: 'lb',
          path: `${SEEN_AT}/certs/${certificate === 'site' ? 'haproxy' : certificate}.pem`,
        })),
      },
    });
    const [host] = fleet.hosts;
    if (host === undefined) throw new Error('the lab has a host');
    const file = join(dirname(host.certPath), 'more.pem');
    await chown(file, 0, 0);
    await chmod(file, 0o600);

    const ended = await kacme.run('bootstrap', '--json');
    expect(ended.status).toBe(3);
    const { places } = summaryOf(ended);
    expect(places.find(({ certificate }) => certificate === 'site')).toMatchObject({ inSync: true });
    expect(places.find(({ certificate }) => certificate === 'more')).toMatchObject({
      action: 'failed',
      failure: {
        code: 'ERR_HOST_FILES',
        message: `lb/${host.address}: read ${SEEN_AT}/certs/more.pem: permission denied for the account haproxy`,
        remedy: expect.stringContaining(`read ${SEEN_AT}/certs/more.pem`),
      },
    });
    expect(await host.haproxy.servedFingerprint256('site.test')).not.toBe(old.fingerprint256);
    // What is there may be somebody else's: neither file nor memory is touched.
    expect(await readFile(file, 'utf8')).toBe(more.bundlePem);
    expect(await host.haproxy.servedFingerprint256('more.test')).toBe(more.fingerprint256);
    const { hosts } = await kacme.status();
    expect(hosts).toMatchObject([
      { reachable: true, places: [{ state: expect.not.stringMatching('failed') }, { state: 'failed' }] },
    ]);
    expect((await kacme.run('check')).stdout).toMatch(/more\.pem: permission denied/);

    await giveTo(labAccount(), file);
    expect(await kacme.run('distribute')).toMatchObject({ status: 0 });
  },
);

test('a host with nothing on its TLS port and no socket is stopped, which is no failure', async () => {
  const { kacme, fleet } = await lab({ hosts: 1 });
  await fleet.hosts[0]?.haproxy.stop();
  const ended = await kacme.run('bootstrap', '--json');
  expect(ended.status).toBe(0);
  expect(summaryOf(ended).places).toMatchObject([{ action: 'installed', inSync: true }]);
});

test('a bootstrap that is interrupted while a host is silent ends at once, and the next one finishes', async () => {
  const { kacme, fleet, served } = await lab({ hosts: 2 });
  const [first, silent] = fleet.hosts;
  if (first === undefined || silent === undefined) throw new Error('there are two hosts');
  silent.sshd.freeze();
  const bootstrap = kacme.start('bootstrap');
  await eventually('the first host is done', () => bootstrap.output().includes(`lb/${first.address}: site `));
  const startedMs = performance.now();
  bootstrap.signal('SIGINT');
  const { status, stdout, stderr } = await bootstrap.finished;
  expect(performance.now() - startedMs).toBeLessThan(3_000);
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/\nkacme: stopped by SIGINT before it was done\n {2}what to do: run it again/);

  silent.sshd.thaw();
  expect(await kacme.run('bootstrap')).toMatchObject({ status: 0 });
  expect(new Set(await served()).size).toBe(1);
  for (const { certPath } of fleet.hosts) expect(await readdir(dirname(certPath))).toEqual(['haproxy.pem']);
});
