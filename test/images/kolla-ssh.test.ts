import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { whyNoContainers } from '../setup/containers.mjs';
import { kollaSshImage } from '../support/images.ts';
import { heldMandate } from '../support/mandate.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPodman, type TestPodman } from '../support/podman.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { openSession, sshTarget } from '../support/ssh-target.ts';
import { createIdentity } from '../support/sshd.ts';

const templates = join(import.meta.dirname, '../../roles-adapter/roles/kacme/templates');
const CONFIG_FILES = '/var/lib/kolla/config_files';
const CERTIFICATES = '/etc/haproxy/certificates';

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
  },
);
