import { once } from 'node:events';
import { chmod, chown, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { SEEN_AT, type TestService } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { giveTo } from '../support/ownership.ts';
import { selfSigned, testCa } from '../support/pem.ts';
import { signalAll } from '../support/process.ts';
import { labAccount } from '../support/programs.ts';

const NAME = 'site.test';
const asRoot = process.getuid?.() === 0;
const { certPath: seenPath, socketPath, masterSocketPath } = haproxyPaths(SEEN_AT);

let lab: LabKacme;
let service: TestService;
let older: string;

beforeAll(async () => {
  const { uid, gid } = labAccount();
  lab = await labKacme({
    bundlePem: selfSigned(NAME).bundlePem,
    overlay: {
      pools: { lb: { haproxy: { socket: socketPath, masterSocket: masterSocketPath } } },
      deployments: [
        { certificate: 'site', pool: 'lb', path: seenPath, mode: '0640', owner: uid, group: gid },
      ],
    },
  });
  service = await lab.kacme.serve();
  await lab.kacme.settled();
  older = await readFile(host().certPath, 'utf8');
  expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
  await lab.kacme.settled();
});
afterAll(() => lab?.close());

function host(): TestHost {
  const [only] = lab.fleet.hosts;
  if (only === undefined) throw new Error('the lab has no host');
  return only;
}

/** Everything that drift can touch. */
async function held() {
  const { certPath, haproxy } = host();
  const { mode, uid, gid } = await stat(certPath);
  const pem = await readFile(certPath, 'utf8');
  return { mode: mode & 0o777, uid, gid, pem, served: await haproxy.servedFingerprint256(NAME) };
}

const placeNow = async () => (await lab.kacme.status()).hosts[0]?.places[0];

/** By hand, as an operator with socat would. */
async function setByHand(pem: string): Promise<void> {
  expect(await host().haproxy.command(`set ssl cert ${seenPath} <<\n${pem}`)).toContain(
    'Transaction created',
  );
}

async function swapByHand(pem: string): Promise<void> {
  await setByHand(pem);
  expect(await host().haproxy.command(`commit ssl cert ${seenPath}`)).toContain('Success!');
}

describe('drift is repaired, and the log says what it was', () => {
  test.for<{
    readonly what: string;
    readonly meddle: () => Promise<void>;
    readonly reason: RegExp;
    readonly needsRoot?: boolean;
  }>([
    { what: 'a file that is missing', meddle: () => rm(host().certPath), reason: /haproxy\.pem is missing$/ },
    {
      what: 'a file that is truncated',
      meddle: () => truncate(host().certPath, 200),
      reason: /haproxy\.pem is not loadable: /,
    },
    {
      what: 'a file that is empty',
      meddle: () => truncate(host().certPath, 0),
      reason: /haproxy\.pem is not loadable: /,
    },
    {
      what: 'a file that is older',
      meddle: () => writeFile(host().certPath, older),
      reason: /haproxy\.pem holds another certificate \(valid until \S+Z\)$/,
    },
    {
      what: 'a file with another mode',
      meddle: () => chmod(host().certPath, 0o644),
      reason: /has mode 0644 instead of 0640$/,
    },
    {
      what: 'a file with another owner',
      meddle: () => chown(host().certPath, 0, labAccount().gid),
      reason: /belongs to uid 0 instead of \d+$/,
      needsRoot: true,
    },
    {
      what: 'a file with another group',
      meddle: () => chown(host().certPath, labAccount().uid, 0),
      reason: /belongs to gid 0 instead of \d+$/,
      needsRoot: true,
    },
    {
      what: 'another certificate in memory than in the file',
      meddle: () => swapByHand(selfSigned(NAME).bundlePem),
      reason: /^HAProxy has another certificate in memory \(valid until \S+Z\)$/,
    },
    {
      what: 'HAProxy that was restarted with an old file',
      meddle: async () => {
        const { haproxy, sshd, certPath } = host();
        await sshd.stop();
        await haproxy.stop();
        await writeFile(certPath, older);
        await haproxy.start();
        await sshd.start();
      },
      reason: /holds another certificate .*; HAProxy has another certificate in memory/,
    },
  ])('$what', async ({ meddle, reason, needsRoot = false }, { skip }) => {
    skip(needsRoot && !asRoot, 'only root can give a file to somebody else');
    const intact = await held();
    const seenBefore = service.log().length;
    await meddle();
    await eventually('all is as it was', async () => expect(await held()).toEqual(intact), {
      timeoutMs: 30_000,
    });
    const decided = service
      .log()
      .slice(seenBefore)
      .filter(({ msg }) => msg === 'change decided');
    expect(decided.map((line) => String(line['reason']))).toContainEqual(expect.stringMatching(reason));
    await lab.kacme.settled();
  });
});

test('a transaction that somebody left open is ended, with nothing else to be changed', async () => {
  const intact = await held();
  await setByHand(selfSigned(NAME).bundlePem);
  expect(await host().haproxy.command('show ssl cert')).toContain('# transaction');
  await service.logged('abandoned transaction aborted', { path: seenPath });
  expect(await host().haproxy.command('show ssl cert')).not.toContain('# transaction');
  expect(await held()).toEqual(intact);
});

test('an old worker that does not give up is reported until it has ended', async () => {
  const { haproxy } = host();
  const [, worker = 0] = haproxy.pids();
  const { address, tlsPort: port } = haproxy;
  const client = connect({ host: address, port, servername: NAME, rejectUnauthorized: false });
  onTestFinished(() => void client.destroy());
  await once(client, 'secureConnect');
  await haproxy.reload();
  signalAll([worker], 'SIGSTOP');
  onTestFinished(() => signalAll([worker], 'SIGCONT'));
  const reported = await eventually(
    'it is reported',
    async () => {
      const place = await placeNow();
      return place?.state === 'out of sync' && place;
    },
    { timeoutMs: 20_000 },
  );
  expect(reported.reason).toContain(`pid ${worker}`);
  expect((await lab.kacme.run('status')).status).toBe(3);

  signalAll([worker], 'SIGCONT');
  client.destroy();
  await lab.kacme.settled(20_000);
});

test('a foreign certificate in memory alone is left there and reported, until it is gone', async () => {
  const foreign = testCa().issue([NAME]);
  const intact = await held();
  await swapByHand(foreign.bundlePem);
  const reported = await eventually('it is reported', async () => {
    const place = await placeNow();
    return place?.state === 'foreign' && place;
  });
  expect(reported.reason).toMatch(/^memory holds a valid certificate that is not kacme's .*takeOver/);
  expect(await host().haproxy.servedFingerprint256(NAME)).toBe(foreign.fingerprint256);
  expect(await readFile(host().certPath, 'utf8')).toBe(intact.pem);
  await swapByHand(intact.pem);
  await lab.kacme.settled();
  await giveTo(labAccount(), host().certPath);
  expect(await held()).toEqual(intact);
});
