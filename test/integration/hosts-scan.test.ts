import { appendFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';
import { type Finished, runKacme } from '../support/kacme.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { createIdentity, type Identity, startSshd, type TestSshd } from '../support/sshd.ts';

const { signal } = new AbortController();
const HOST_KEY_TYPES = ['ed25519', 'ecdsa', 'rsa'] as const;

let directory: string;
let identity: Identity;
let known: string;
const at = (name: string) => join(directory, name);

beforeAll(async () => {
  const scratch = await scratchDirectory();
  directory = scratch.path;
  identity = await createIdentity(at('id'));
  known = at('known_hosts');
  return () => scratch.remove();
});
beforeEach(() => rm(known, { force: true }));

async function sshd(options: Parameters<typeof startSshd>[0] = {}): Promise<TestSshd> {
  const server = await startSshd({ identity, hostKeyTypes: HOST_KEY_TYPES, ...options });
  onTestFinished(() => server.close());
  return server;
}

interface Place {
  readonly address: string;
  readonly port: number;
}

async function scan(hosts: readonly Place[], args: readonly string[] = [], ssh = {}): Promise<Finished> {
  const config = {
    issuers: {},
    certificates: {},
    pools: {
      lb: {
        hosts: hosts.map(({ address: host, port }) => ({ host, port })),
        ssh: {
          user: 'haproxy',
          identity: { file: identity.identityFile },
          knownHosts: known,
          connectTimeout: '3s',
          ...ssh,
        },
        haproxy: { socket: '/s' },
      },
    },
    deployments: [],
  };
  await writeFile(at('kacme.yaml'), stringify(config));
  return runKacme(['--config', at('kacme.yaml'), 'hosts', 'scan', ...args]);
}

async function silentHost(): Promise<Place> {
  const sockets = new Set<Socket>();
  const address = loopbackAddress();
  const port = await freePort(address);
  const server = createServer((socket) => sockets.add(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address, port };
}

test('keys of every type are printed as known_hosts lines, and explained apart from them', async () => {
  const server = await sshd();
  const { status, stdout, stderr } = await scan([server]);
  expect(status).toBe(0);
  expect(stdout.split('\n').toSorted()).toEqual(server.knownHosts.split('\n').toSorted());
  expect(stderr).toContain(`lb/${server.address} (${server.address}:${server.port}), known hosts: ${known}`);
  expect(stderr.match(/new +\S+ +SHA256:\S{43}$/gm)).toHaveLength(3);
  for (const type of HOST_KEY_TYPES)
    expect(stderr).toContain(`ssh-keygen -lf /etc/ssh/ssh_host_${type}_key.pub`);
});

test('nobody is logged in', async () => {
  const server = await sshd();
  await scan([server]);
  await expect.poll(() => server.output().match(/Disconnected from/g)?.length ?? 0).toBe(3);
  expect(server.output()).not.toMatch(/Accepted|Failed|user (?:haproxy|none)/);
});

test('what was scanned can be appended as it is, once, and lets kacme in', async () => {
  const server = await sshd({ address: '::1' });
  const first = await scan([server]);
  expect(first.stdout).toContain(`[::1]:${server.port} ssh-ed25519 `);
  await appendFile(known, first.stdout);
  const { pool, host } = sshTarget({ ...server, identityFile: identity.identityFile, knownHostsFile: known });
  const session = await openSession(pool, host, { signal });
  await session.close();
  const second = await scan([server]);
  expect(second).toMatchObject({ status: 0, stdout: '' });
  expect(second.stderr.match(/pinned +\S+ +SHA256:\S{43} {2}\S+:[123]$/gm)).toHaveLength(3);
  expect(second.stderr).not.toContain('ssh-keygen');
});

test('a key that differs is a comment, a revoked one is nothing, and the status is 3', async () => {
  const server = await sshd();
  const [ed25519, ecdsa] = await server.hostPublicKeys();
  await writeFile(known, `${server.knownHosts}@revoked * ${ecdsa}\n`);
  const unchanged = await scan([server]);
  expect(unchanged).toMatchObject({ status: 3, stdout: '' });
  expect(unchanged.stderr).toMatch(/revoked {2}ecdsa-sha2-nistp256 .*:4$/m);

  await server.rotateHostKeys();
  const rotated = await scan([server]);
  expect(rotated.status).toBe(3);
  expect(rotated.stdout).not.toContain(ed25519);
  const [fresh] = await server.hostPublicKeys();
  expect(rotated.stdout).toContain(
    `# differs from ${known}:1: [${server.address}]:${server.port} ${fresh}\n`,
  );
  expect(rotated.stdout.trim().split('\n')).toHaveLength(3);
  expect(rotated.stdout).toMatch(/^(?:# differs from .*\n)+$/);
  expect(rotated.stderr).toMatch(/differs {2}ssh-ed25519 .* from .*:1$/m);
});

test('hosts that do not answer hold up no other one, and are named with what to do', async () => {
  const server = await sshd();
  const down = { address: loopbackAddress(), port: server.port };
  const silent = await Promise.all([silentHost(), silentHost(), silentHost()]);
  const { status, stdout, stderr } = await scan([down, ...silent, server]);
  expect(status).toBe(3);
  expect(stdout.trim().split('\n')).toHaveLength(3);
  expect(stderr).toMatch(
    /failed {3}lb\/\S+ \(\S+\): connect: connection refused, nothing listens there.*\n +what to do: /,
  );
  expect(stderr.match(/await the SSH banner: no answer within 3000 ms/g)).toHaveLength(3);
  expect((await scan([down])).status).toBe(1);
});

test('hosts can be named, another port asked, and the answer had as JSON', async () => {
  const [one, other] = [await sshd(), await sshd({ hostKeyTypes: ['ed25519'] })];
  const { status, stdout, stderr } = await scan(
    [one, { ...other, port: 1 }],
    [other.address, '--port', String(other.port), '--pool', 'lb', '--json'],
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const [key] = await other.hostPublicKeys();
  expect(JSON.parse(stdout)).toEqual({
    hosts: [
      {
        pool: 'lb',
        name: other.address,
        role: 'host',
        address: other.address,
        port: other.port,
        knownHosts: known,
        keys: [
          {
            keyType: 'ssh-ed25519',
            fingerprint: expect.stringMatching(/^SHA256:/),
            standing: 'new',
            pinnedAt: [],
            knownHostsLine: `[${other.address}]:${other.port} ${key}`,
          },
        ],
      },
    ],
  });
  expect(one.output()).not.toContain('Connection from');
});

test.each([
  { args: ['lb9'], says: 'there is no host named lb9 in the configuration, that SSH leads to' },
  { args: ['--pool', 'web'], says: 'there is no pool named web in the configuration' },
  { args: ['--port', '0'], says: 'Expected a port, a whole number from 1 to 65535.' },
])('$args is wrong usage', async ({ args, says }) => {
  const { status, stdout, stderr } = await scan([{ address: '127.0.0.1', port: 1 }], args);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(says);
});

describe('behind a jump host', () => {
  test('a host is scanned once the jump host is pinned, whose own keys come first', async () => {
    const target = await sshd();
    const jump = await sshd({
      account: 'shell',
      configLines: ['AllowTcpForwarding local', `PermitOpen ${target.address}:${target.port}`],
    });
    const ssh = { jump: `haproxy@${jump.address}:${jump.port}` };
    const unpinned = await scan([target], [], ssh);
    expect(unpinned.status).toBe(3);
    expect(unpinned.stdout.split('\n').toSorted()).toEqual(jump.knownHosts.split('\n').toSorted());
    expect(unpinned.stderr).toContain(`jump host ${jump.address}:${jump.port}, known hosts: ${known}`);
    expect(unpinned.stderr).toMatch(/failed .*read known_hosts file/);
    expect(target.output()).not.toContain('Connection from');

    await writeFile(known, unpinned.stdout);
    const { status, stdout } = await scan([target], [target.address], ssh);
    expect(status).toBe(0);
    expect(stdout.split('\n').toSorted()).toEqual(target.knownHosts.split('\n').toSorted());
    expect(target.output()).not.toMatch(/Accepted|Failed/);
  });
});
