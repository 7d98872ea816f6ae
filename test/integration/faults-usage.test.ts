import { once } from 'node:events';
import { chmod, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';
import { type Finished, freeEndpoint, runKacme } from '../support/kacme.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { createIdentity } from '../support/sshd.ts';

interface Setup {
  readonly configPath: string;
  readonly identity: string;
  readonly knownHosts: string;
  readonly challenge: string;
  readonly operations: string;
  run(...args: string[]): Promise<Finished>;
  /** Names in the only directory that kacme may write to. */
  files(): Promise<readonly string[]>;
}

/** kacme with one host at which nothing listens. */
async function setUp(more: Readonly<Record<string, unknown>> = {}): Promise<Setup> {
  const scratch = await scratchDirectory();
  onTestFinished(scratch.remove);
  const at = (name: string) => join(scratch.path, name);
  const [identity, knownHosts] = [at('id_ed25519'), at('known_hosts')];
  await createIdentity(identity);
  await writeFile(knownHosts, '');
  const [challenge, operations] = [await freeEndpoint(), await freeEndpoint()];
  const config = {
    issuers: { ca: { directory: `https://${await freeEndpoint()}/dir`, termsOfServiceAgreed: true } },
    certificates: { site: { identifiers: ['site.test'], issuers: ['ca'] } },
    pools: {
      lb: {
        hosts: [await freeEndpoint()],
        ssh: { user: 'haproxy', identity: { file: identity }, knownHosts },
        haproxy: { socket: '/srv/haproxy.sock' },
      },
    },
    deployments: [{ certificate: 'site', pool: 'lb', path: '/srv/haproxy.pem' }],
    challenge: { listen: challenge },
    operations: { listen: operations },
    store: { file: at('store') },
    ...more,
  };
  const configPath = at('kacme.yaml');
  await writeFile(configPath, stringify(config));
  return {
    configPath,
    identity,
    knownHosts,
    challenge,
    operations,
    run: (...args) => runKacme(['--config', configPath, ...args]),
    files: async () => (await readdir(scratch.path)).sort(),
  };
}

async function occupy(endpoint: string): Promise<void> {
  const [host, port] = endpoint.split(':');
  const server = createServer().listen(Number(port), host);
  await once(server, 'listening');
  onTestFinished(async () => {
    server.close();
    await once(server, 'close');
  });
}

describe('a configuration that is wrong in five places', () => {
  test.each([['bootstrap'], ['serve'], ['renew'], ['status']])(
    '%s names each with file, line and column, ends with 2 and starts nothing',
    async (command) => {
      const { configPath, run, files } = await setUp({
        certificates: { site: { identifiers: ['site test'], issuers: ['cb'], key: 'rsa-1024' } },
        operations: { listen: '127.0.0.1' },
        reconcile: { every: '20' },
      });
      const before = await files();
      const { status, stdout, stderr } = await run(command);
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
      const lines = stderr.trimEnd().split('\n');
      expect(lines).toHaveLength(5);
      for (const [i, path] of [
        'certificates.site.identifiers[0]',
        'certificates.site.issuers[0]',
        'certificates.site.key',
        'operations.listen',
        'reconcile.every',
      ].entries()) {
        expect(lines[i]).toMatch(/^\S+kacme\.yaml:\d+:\d+: /);
        expect(lines[i]).toContain(`${configPath}:`);
        expect(lines[i]).toContain(`: ${path}: `);
      }
      expect(await files()).toEqual(before);
    },
  );
});

describe('wrong usage ends with 2 and says what would be right', () => {
  test('a command, an option, a certificate and a host that do not exist', async () => {
    const { run, files } = await setUp();
    const before = await files();
    const said = await Promise.all([
      run('bootstrp'),
      run('renew', '--forse'),
      run('renew', 'sight'),
      run('distribute', '--host', '192.0.2.7'),
    ]);
    expect(said.map(({ status }) => status)).toEqual([2, 2, 2, 2]);
    expect(said.map(({ stdout }) => stdout)).toEqual(['', '', '', '']);
    expect(await files()).toEqual(before);
    expect(said[0]?.stderr).toContain('Did you mean bootstrap?');
    expect(said[1]?.stderr).toContain('Did you mean --force?');
    expect(said[2]?.stderr).toMatch(/no certificate named sight .*\n {2}what to do: name one of: site\n/);
    expect(said[3]?.stderr).toMatch(/no host named 192\.0\.2\.7 .*\n {2}what to do: name one of: 127\./);
  });

  test('a configuration that cannot be read', async () => {
    const { status, stderr } = await runKacme(['--config', '/nowhere/kacme.yaml', 'status']);
    expect(status).toBe(2);
    expect(stderr).toContain('cannot read the configuration /nowhere/kacme.yaml: ENOENT');
    expect(stderr).toContain('kacme config init');
  });

  test('a path too long for a UNIX socket, wherever it is given', async () => {
    const long = `/tmp/${'a'.repeat(110)}`;
    const [socket, store] = await Promise.all([
      setUp({ control: { socket: `${long}/k.sock` } }),
      setUp({ store: { file: long } }),
    ]);
    for (const [{ run }, path] of [
      [socket, 'control.socket'],
      [store, 'store.file'],
    ] as const) {
      const { status, stderr } = await run('serve');
      expect(status).toBe(2);
      expect(stderr).toMatch(new RegExp(`:\\d+:\\d+: ${path}: .*at most 107 bytes`));
    }
  });
});

describe('what a host is reached with', () => {
  test.each([
    {
      what: 'an identity that others can read',
      spoil: ({ identity }: Setup) => chmod(identity, 0o644),
      says: /id_ed25519: its permissions 0644 are open to other users\n {2}what to do: chmod 600 \S+id_ed25519\n/,
    },
    {
      what: 'an identity that is missing',
      spoil: ({ identity }: Setup) => rm(identity),
      says: /id_ed25519: ENOENT: .*\n {2}what to do: name a file that the user of kacme can read\n/,
    },
    {
      what: 'known_hosts that are missing',
      spoil: ({ knownHosts }: Setup) => rm(knownHosts),
      says: /known_hosts file \S+known_hosts: ENOENT.*\n {2}what to do: pin the hosts' keys in \S+known_hosts \(kacme hosts scan/,
    },
  ])('$what: each host that needs it is reported with the remedy', async ({ spoil, says }) => {
    const setup = await setUp();
    await spoil(setup);
    const { status, stdout } = await setup.run('bootstrap');
    expect(status).toBe(1);
    expect(stdout).toMatch(says);
  });
});

describe('a service that cannot start', () => {
  test('says which port is taken, and by which setting another is chosen', async () => {
    const { run, challenge, operations } = await setUp();
    await occupy(challenge);
    for (const command of ['serve', 'renew']) {
      const { status, stderr } = await run(command);
      expect(status).toBe(1);
      expect(stderr).toContain(`kacme: challenge server: listen on ${challenge.replace(':', ' port ')}`);
      expect(stderr).toMatch(/\n {2}what to do: .*challenge\.listen/);
    }
    const other = await setUp({ operations: { listen: operations } });
    await occupy(operations);
    const { status, stderr } = await other.run('serve');
    expect(status).toBe(1);
    expect(stderr).toContain(`kacme: operations server: listen on ${operations.replace(':', ' port ')}`);
    expect(stderr).toMatch(/\n {2}what to do: .*operations\.listen/);
  });

  test.each([
    { what: 'below a file', path: '/etc/hostname/store', says: 'ENOTDIR' },
    { what: 'where no directory can be made', path: '/proc/kacme', says: 'ENOENT' },
  ])('names a store $what, with the remedy', async ({ path, says }) => {
    const { run } = await setUp({ store: { file: path } });
    for (const command of ['bootstrap', 'serve']) {
      const { status, stderr } = await run(command);
      expect(status).toBe(1);
      expect(stderr).toMatch(
        new RegExp(`kacme: cannot create ${path}: ${says}.*\\n {2}what to do: .*store\\.file`),
      );
    }
  });
});
