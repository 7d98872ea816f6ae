import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { describeHostSession, readOnlyDirectory } from '../contract/host-session.contract.ts';
import { whyNoContainers } from '../setup/containers.mjs';
import { sshImage } from '../support/images.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { giveTo } from '../support/ownership.ts';
import { startPodman, type TestPodman } from '../support/podman.ts';
import { labAccount } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { createIdentity } from '../support/sshd.ts';

const repository = join(import.meta.dirname, '..', '..');
const account = labAccount();
const { signal } = new AbortController();

const obstacle = await whyNoContainers();

describe.skipIf(obstacle !== undefined)(
  `the sshd image${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let podman: TestPodman;
    let image: string;

    beforeAll(async () => {
      podman = await startPodman();
      image = await sshImage(podman);
    }, 180_000);

    afterAll(() => podman?.close(), 60_000);

    /** What a host gives the container: a volume for its key, and who may come from where. */
    async function host({
      from = '127.0.0.0/8',
      sockets = ['/run/haproxy/admin.sock'],
    }: {
      from?: string;
      sockets?: readonly string[];
    } = {}) {
      const scratch = await scratchDirectory();
      const at = (name: string) => join(scratch.path, name);
      await chmod(scratch.path, 0o711);
      await mkdir(at('state'), { mode: 0o700 });
      await giveTo(account, at('state'));
      const identity = await createIdentity(at('id_ed25519'));
      const authorizedKeys = at('authorized_keys');
      const options = from === '' ? '' : `from="${from}",restrict,port-forwarding `;
      await writeFile(authorizedKeys, `# of kacme\n${options}${identity.publicKey}\n`);
      const address = loopbackAddress();
      const port = await freePort(address);
      const container = {
        image,
        flags: [
          ...['--read-only', '--read-only-tmpfs=false', '--tmpfs', '/run/kacme-ssh'],
          ...[
            '--cap-drop=all',
            '--security-opt=no-new-privileges',
            '--user',
            `${account.uid}:${account.gid}`,
          ],
          ...['-v', `${at('state')}:/var/lib/kacme-ssh`],
          ...['-v', `${authorizedKeys}:/etc/kacme-ssh/authorized_keys:ro`],
          ...[...new Set(sockets.map(dirname))]
            .filter((path) => path !== '/run/haproxy')
            .flatMap((path) => ['-v', `${path}:${path}`]),
          ...['-e', `KACME_SSH_LISTEN=${address}`, '-e', `KACME_SSH_PORT=${port}`],
          ...['-e', `KACME_SSH_SOCKETS=${sockets.join(' ')}`],
        ],
      };
      const start = async () => {
        const sshd = await podman.start({
          ...container,
          ready: (output) => output.includes('Server listening on'),
        });
        const publicKey = await readFile(at('state/ssh_host_ed25519_key.pub'), 'utf8');
        await writeFile(at('known_hosts'), `[${address}]:${port} ${publicKey}`);
        return sshd;
      };
      const { pool, host: target } = sshTarget({
        address,
        port,
        user: 'kacme',
        identityFile: identity.identityFile,
        knownHostsFile: at('known_hosts'),
      });
      const open = () => openSession(pool, target, { signal });
      return { at, container, start, open, remove: scratch.remove };
    }

    describeHostSession({
      name: 'as a way into a host',
      start: async (sockets) => {
        const { start, open, remove } = await host({ sockets });
        const sshd = await start();
        return {
          open,
          [Symbol.asyncDispose]: async () => {
            await sshd.stop();
            await remove();
          },
        };
      },
      commands: false,
      lockedDirectory: readOnlyDirectory,
    });

    test('makes its host key once, private from the start, and answers with it ever after', async () => {
      const { at, start, open, remove } = await host();
      onTestFinished(remove);
      const first = await start();
      const key = await readFile(at('state/ssh_host_ed25519_key'));
      expect((await stat(at('state/ssh_host_ed25519_key'))).mode & 0o7777).toBe(0o600);
      first.signal('SIGTERM');
      await first.exited;

      const second = await start();
      onTestFinished(() => second.stop());
      const session = await open();
      onTestFinished(() => session.close());
      expect(key.equals(await readFile(at('state/ssh_host_ed25519_key')))).toBe(true);
      expect(await second.healthcheck()).toMatchObject({ status: 0 });
    });

    test('is unhealthy when another key answers than the one on its volume', async () => {
      const { start, remove } = await host();
      onTestFinished(remove);
      const sshd = await start();
      onTestFinished(() => sshd.stop());

      await sshd.exec('sh', '-c', 'echo ssh-ed25519 AAAA > /run/kacme-ssh/host_key.pub');

      expect(await sshd.healthcheck()).toMatchObject({ status: 1 });
    });

    test('lets nobody in from an address that the key is not bound to', async () => {
      const { start, open, remove } = await host({ from: '192.0.2.7' });
      onTestFinished(remove);
      const sshd = await start();
      onTestFinished(() => sshd.stop());

      await expect(open()).rejects.toMatchObject({ code: 'ERR_HOST_LOGIN_REFUSED' });
    });

    test('forbids and allows what docs/ssh.md says', async () => {
      const page = await readFile(join(repository, 'docs/ssh.md'), 'utf8');
      const block = /```sshd_config\nMatch User kacme\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
      const differing = ['AuthorizedKeysFile', 'PermitOpen']; // the path of the image; the sockets of the host
      const documented = block
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '' && !differing.some((word) => line.startsWith(word)));
      const config = (await readFile(join(repository, 'docker/ssh/sshd_config'), 'utf8')).split('\n');

      expect(documented.length).toBeGreaterThan(5);
      expect(config).toEqual(expect.arrayContaining(documented));
    });

    test.each([
      {
        when: 'a key is bound to no address',
        from: '',
        flags: [],
        says: /every key has to begin with the addresses/,
      },
      { when: 'it runs as root', flags: ['--user', '0:0'], says: /runs as root/ },
      {
        when: 'the port is none',
        flags: ['-e', 'KACME_SSH_PORT=ssh'],
        says: /KACME_SSH_PORT: expected a port from 1 to 65535, not "ssh"/,
      },
      {
        when: 'a socket could end the line',
        flags: ['-e', 'KACME_SSH_SOCKETS=/run/a]:*'],
        says: /KACME_SSH_SOCKETS: a path may have/,
      },
      {
        when: 'a socket is a pattern',
        flags: ['-e', 'KACME_SSH_SOCKETS=/run/*'],
        says: /KACME_SSH_SOCKETS: a path may have.*, not "\/run\/\*"/,
      },
      {
        when: 'the path of the keys is relative',
        flags: ['-e', 'KACME_SSH_AUTHORIZED_KEYS=authorized_keys'],
        says: /KACME_SSH_AUTHORIZED_KEYS: expected an absolute path/,
      },
      {
        when: 'the path of the keys is a pattern of sshd',
        flags: ['-e', 'KACME_SSH_AUTHORIZED_KEYS=/home/%u/keys'],
        says: /KACME_SSH_AUTHORIZED_KEYS: a path may have/,
      },
      {
        when: 'there is no file of keys',
        flags: ['-e', 'KACME_SSH_AUTHORIZED_KEYS=/etc/kacme-ssh/other_keys'],
        says: /other_keys is missing or unreadable/,
      },
      {
        when: 'its volume belongs to somebody else',
        flags: ['--user', '64999:64999'],
        says: /kacme-ssh is not writable for uid 64999/,
      },
    ])('does not start when $when, and says what to do', async ({ from, flags, says }) => {
      const { container, remove } = await host(from === undefined ? {} : { from });
      onTestFinished(remove);
      const { status, stderr } = await podman.run({ ...container, flags: [...container.flags, ...flags] });

      expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringMatching(says) });
    });
  },
);
