import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { whyNoContainers } from '../setup/containers.mjs';
import { kollaSshImage } from '../support/images.ts';
import { heldMandate } from '../support/mandate.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPodman, type TestPodman } from '../support/podman.ts';
import { programs } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { createIdentity } from '../support/sshd.ts';

const templates = join(import.meta.dirname, '../../roles-adapter/roles/kacme/templates');
const CONFIG_FILES = '/var/lib/kolla/config_files';
const CERTIFICATES = '/etc/haproxy/certificates';
const SOCKETS = '/var/lib/kolla/haproxy';
/** In Kolla's images. */
const KOLLA_GID = 42400;

/** What Kolla's image does before its sshd starts. */
const HAPROXY_SSH = join(import.meta.dirname, 'kolla-haproxy-ssh/extend_start.sh');

const run = promisify(execFile);

const isListening = (port: number, address: string) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, address, () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

const obstacle = await whyNoContainers();

describe.skipIf(obstacle !== undefined)(
  `the sshd image for Kolla${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let podman: TestPodman;
    let image: string;

    beforeAll(async () => {
      podman = await startPodman();
      image = await kollaSshImage(podman);
    }, 180_000);

    afterAll(() => podman?.close(), 60_000);

    test('lets kacme alone in, as the user haproxy, with the files that the role renders', async () => {
      const scratch = await scratchDirectory();
      onTestFinished(scratch.remove);
      const at = (name: string) => join(scratch.path, name);
      const address = loopbackAddress();
      const port = await freePort(address);
      const [identity, hostKey] = [await createIdentity(at('id')), await createIdentity(at('host'))];
      await mkdir(at('kolla'));
      // These templates have nothing in them but names.
      const values: Readonly<Record<string, string>> = {
        container_config_directory: CONFIG_FILES,
        kacme_ssh_user: 'haproxy',
        kacme_certificates_directory: CERTIFICATES,
        api_interface_address: address,
        kacme_ssh_port: String(port),
        kacme_haproxy_socket: '/var/lib/kolla/haproxy/haproxy.sock',
        kacme_master_socket: '/var/lib/kolla/haproxy/haproxy-master.sock',
      };
      const render = async (template: string, name: string) => {
        const text = await readFile(join(templates, template), 'utf8');
        await writeFile(
          at(`kolla/${name}`),
          text.replace(/\{\{ (\w+) \}\}/g, (_, key: string) => {
            const value = values[key];
            if (value === undefined) throw new Error(`${template} has another variable: ${key}`);
            return value;
          }),
        );
      };
      await render('kacme_ssh.json.j2', 'config.json');
      await render('sshd_config.j2', 'sshd_config');
      await copyFile(hostKey.identityFile, at('kolla/ssh_host_ed25519_key'));
      const allowed = `from="127.0.0.0/8",restrict,port-forwarding ${identity.publicKey}\n`;
      await writeFile(at('kolla/authorized_keys'), allowed);
      await chmod(scratch.path, 0o711);
      const volume = `${basename(podman.directory)}-certificates`;
      onTestFinished(async () => {
        await podman.podman('volume', 'rm', '--force', volume);
      });

      const sshd = await podman.start({
        image,
        flags: [
          ...['-v', `${at('kolla')}:${CONFIG_FILES}:ro`, '-v', `${volume}:${CERTIFICATES}`],
          ...['-e', 'KOLLA_CONFIG_STRATEGY=COPY_ALWAYS'],
        ],
        ready: (output) => output.includes('Server listening on'),
      });
      onTestFinished(() => sshd.stop());
      await writeFile(at('known_hosts'), `[${address}]:${port} ${hostKey.publicKey}\n`);
      const { pool, host } = sshTarget({
        address,
        port,
        user: 'haproxy',
        identityFile: identity.identityFile,
        knownHostsFile: at('known_hosts'),
      });
      const options = { signal: AbortSignal.timeout(20_000), mandate: heldMandate() };
      const session = await openSession(pool, host, options);
      onTestFinished(() => session.close());

      await session.createFile(`${CERTIFICATES}/draft`, Buffer.from('a bundle'), options);
      await session.rename(`${CERTIFICATES}/draft`, `${CERTIFICATES}/haproxy.pem`, options);
      const written = await session.stat(`${CERTIFICATES}/haproxy.pem`, options);
      expect(written).toMatchObject({ uid: 42454, gid: 42454, mode: 0o600 });
      const command = session.run(['id'], { ...options, timeoutMs: 5_000 });
      await expect(command).rejects.toMatchObject({ code: 'ERR_HOST_COMMAND' });
      expect(await sshd.exec('cat', '/var/log/kolla/kacme_ssh/kacme_ssh.log')).toMatchObject({
        stdout: expect.stringContaining('Server listening on'),
      });
    });

    test("Kolla's own haproxy_ssh lets kacme in with the key of passwords.yml, to all that it needs there", async () => {
      const scratch = await scratchDirectory();
      onTestFinished(scratch.remove);
      const at = (...names: string[]) => join(scratch.path, ...names);
      const address = loopbackAddress();
      const port = await freePort(address);
      await mkdir(at('kolla'));
      await mkdir(at('sockets'));
      await chmod(scratch.path, 0o711);
      // As kolla-genpwd makes it.
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
      await writeFile(at('id'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
      const { sshKeygen, env } = programs();
      const publicKey = await run(sshKeygen, ['-y', '-f', at('id')], { env: { ...env } });
      await writeFile(at('kolla/id_rsa.pub'), publicKey.stdout);
      // As Kolla Ansible renders it: what is not said is sshd's own default.
      await writeFile(at('kolla/sshd_config'), `Port ${port}\nListenAddress ${address}\nUsePAM yes\n`);
      const config = {
        command: '/usr/sbin/sshd -D',
        config_files: [
          {
            source: `${CONFIG_FILES}/sshd_config`,
            dest: '/etc/ssh/sshd_config',
            owner: 'root',
            perm: '0600',
          },
          {
            source: `${CONFIG_FILES}/id_rsa.pub`,
            dest: '/var/lib/haproxy/.ssh/authorized_keys',
            owner: 'haproxy',
            perm: '0600',
          },
        ],
      };
      await writeFile(at('kolla/config.json'), JSON.stringify(config));
      // HAProxy's socket is for Kolla's group.
      const haproxy = createServer((socket) => socket.end('HAProxy')).listen(at('sockets/haproxy.sock'));
      await once(haproxy, 'listening');
      onTestFinished(() => void haproxy.close());
      await chown(at('sockets/haproxy.sock'), 0, KOLLA_GID);
      await chmod(at('sockets/haproxy.sock'), 0o660);

      const sshd = await podman.start({
        image,
        flags: [
          ...['--user', 'root', '-e', 'KOLLA_CONFIG_STRATEGY=COPY_ALWAYS'],
          ...['-v', `${at('kolla')}:${CONFIG_FILES}:ro`, '-v', `${at('sockets')}:${SOCKETS}`],
          ...['-v', `${HAPROXY_SSH}:/usr/local/bin/kolla_extend_start:ro`],
        ],
        ready: () => isListening(port, address),
      });
      onTestFinished(() => sshd.stop());
      // What the role asks of it.
      const hostKey = await sshd.exec('cat', '/etc/ssh/ssh_host_ed25519_key.pub');
      await writeFile(at('known_hosts'), `[${address}]:${port} ${hostKey.stdout}`);
      await sshd.exec('chown', '-c', 'haproxy:', CERTIFICATES);
      const { pool, host } = sshTarget(
        { address, port, user: 'haproxy', identityFile: at('id'), knownHostsFile: at('known_hosts') },
        { sftp: { exec: '/usr/lib/openssh/sftp-server' } },
      );
      const options = { signal: AbortSignal.timeout(20_000), mandate: heldMandate() };
      const session = await openSession(pool, host, options);
      onTestFinished(() => session.close());

      await session.createFile(`${CERTIFICATES}/draft`, Buffer.from('a bundle'), options);
      await session.rename(`${CERTIFICATES}/draft`, `${CERTIFICATES}/haproxy.pem`, options);
      const written = await session.stat(`${CERTIFICATES}/haproxy.pem`, options);
      expect(written).toMatchObject({ uid: 42454, gid: 42454, mode: 0o600 });
      const socket = await session.connectSocket(`${SOCKETS}/haproxy.sock`, options);
      expect(await text(socket)).toBe('HAProxy');
    });
  },
);
