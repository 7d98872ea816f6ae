import { once } from 'node:events';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { Client, type ConnectConfig } from 'ssh2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Status } from '../../src/domain/status.ts';
import type { TestKolla } from '../support/ansible.ts';
import { eventually } from '../support/eventually.ts';
import { startCloud, type TestCloud } from '../support/kolla-cloud.ts';
import {
  type Container,
  type ContainerHost,
  canHaveContainers,
  containerHost,
} from '../support/kolla-container.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPebble } from '../support/pebble.ts';

const ADDRESS = '127.0.0.1';

/** As kolla-ansible's loadbalancer role runs HAProxy: its config.json, made from what was rendered. */
async function haproxyContainer(kolla: TestKolla, host: string): Promise<Container> {
  const directory = join(kolla.path, 'hosts', host, 'haproxy');
  const file = (name: string, perm: string) => ({
    source: `/var/lib/kolla/config_files/${name}`,
    dest: `/etc/haproxy/${name}`,
    owner: 'root',
    perm,
  });
  const config = {
    command: '/etc/haproxy/haproxy_run.sh',
    config_files: [
      file('haproxy_run.sh', '0700'),
      file('haproxy.cfg', '0600'),
      file('services.d/kacme.cfg', '0600'),
      file('services.d/horizon.cfg', '0600'),
    ],
  };
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  return {
    name: 'haproxy',
    environment: null,
    volumes: [
      `${directory}:/var/lib/kolla/config_files`,
      'haproxy_socket:/var/lib/kolla/haproxy',
      'letsencrypt_certificates:/etc/haproxy/certificates',
    ],
  };
}

/** The issuer and the names of what a client is shown there. */
function served(address: string, port: number, servername: string) {
  return new Promise<{ issuer: string; names: string }>((resolve, reject) => {
    const socket = connect({ host: address, port, servername, rejectUnauthorized: false }, () => {
      const { issuer, subjectaltname = '' } = socket.getPeerCertificate();
      resolve({ issuer: String(issuer.CN), names: subjectaltname });
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

describe.skipIf(!(await canHaveContainers()))('what the role renders, run as Kolla runs it', () => {
  const cleanup: (() => PromiseLike<unknown>)[] = [];
  let cloud: TestCloud;
  let host: ContainerHost;
  let container: (name: string) => Container;
  let ports: { readonly ssh: number; readonly verify: number };

  beforeAll(async () => {
    const pebble = await startPebble();
    cleanup.push(pebble.close);
    const [internalVip, externalVip] = [loopbackAddress(), loopbackAddress()];
    cloud = await startCloud({
      // Where connections over the loopback come from: the key of kacme is bound to its host's address.
      address: ADDRESS,
      globals: {
        standin_internal_vip: internalVip,
        standin_external_vip: externalVip,
        standin_http_port: String(pebble.httpPort),
        kacme_http_port: String(pebble.httpPort),
        kacme_operations_port: String(await freePort(ADDRESS)),
        kacme_acme_directory: pebble.directoryUrl,
        kacme_acme_ca_file: pebble.caFile,
        kacme_resolvers: [pebble.dns],
        // The CA of the lab does not ask at port 80.
        kacme_self_check_via: `http://${externalVip}:${pebble.httpPort}`,
      },
    });
    const { kolla } = cloud;
    cleanup.push(() => cloud[Symbol.asyncDispose]());
    await pebble.setAddresses('cloud.test', [externalVip]);
    await pebble.setAddresses('internal.cloud.test', [internalVip]);
    for (const playbooks of [['prepare.yml'], ['loadbalancer.yml', 'kacme.yml']]) {
      const { status, output } = await kolla.play(playbooks, 'deploy');
      expect(status, output).toBe(0);
    }
    const told = await kolla.actions('ctl1');
    container = (name) => {
      const found = told.findLast((action) => action.name === name);
      if (found === undefined) throw new Error(`the role started no container ${name}`);
      return found;
    };
    const globals = JSON.parse(await readFile(join(kolla.path, 'etc/globals.yml'), 'utf8'));
    ports = { ssh: Number(globals.kacme_ssh_port), verify: Number(globals.kacme_verify_port) };
    await cloud.makeRoom();
    host = await containerHost();
    cleanup.push(() => host[Symbol.asyncDispose]());

    // In the documented order: HAProxy with a certificate of its own, the sidecar, the bootstrap, kacme.
    const haproxy = await host.start(await haproxyContainer(kolla, 'ctl1'), 'root', (output) =>
      output.includes('Loading success'),
    );
    cleanup.push(haproxy.stop);
    const sshd = await host.start(container('kacme_ssh'), 'haproxy', (output) =>
      output.includes('Server listening on'),
    );
    cleanup.push(sshd.stop);
    await host.run(container('bootstrap_kacme'), 'kacme', 'kacme', 'bootstrap');
    const kacme = await host.start(container('kacme'), 'kacme', (output) =>
      output.includes('"msg":"kacme is up"'),
    );
    cleanup.push(kacme.stop);
  }, 240_000);
  afterAll(async () => {
    for (const step of cleanup.reverse()) await step();
  });

  /** A client with the key of kacme that asks for what kacme never would. */
  async function intruder(options: ConnectConfig = {}): Promise<Client & AsyncDisposable> {
    const client = new Client();
    client.connect({
      host: ADDRESS,
      port: ports.ssh,
      username: 'haproxy',
      privateKey: await cloud.kolla.read('ctl1', 'kacme/id_ed25519'),
      ...options,
    });
    await once(client, 'ready');
    return Object.assign(client, {
      [Symbol.asyncDispose]: async () => {
        client.end();
        await once(client, 'close');
      },
    });
  }

  test('brings certificates of the CA to both addresses of the cloud', async () => {
    const status = async (): Promise<Status> =>
      JSON.parse(await host.run(container('kacme'), 'kacme', 'kacme', 'status', '--json'));
    const places = await eventually(
      'both certificates are in sync',
      async () => {
        const { certificates, hosts } = await status();
        const states = hosts.flatMap((each) => each.places.map(({ state }) => state));
        const valid = certificates.every(({ state }) => state === 'valid');
        return valid && states.every((state) => state === 'in sync') && states;
      },
      { timeoutMs: 60_000 },
    );
    expect(places).toHaveLength(2);
    for (const name of ['cloud.test', 'internal.cloud.test'])
      expect(await served(ADDRESS, ports.verify, name)).toEqual({
        issuer: expect.stringContaining('Pebble'),
        names: `DNS:${name}`,
      });
  });

  test('lets the key of kacme in from its host alone', async () => {
    await expect(intruder({ localAddress: '127.0.0.9' })).rejects.toThrow(/authentication methods failed/);
  });

  test('runs no command, opens no shell, and leads nowhere but to the sockets of HAProxy', async () => {
    await using client = await intruder();
    const output = await new Promise<string>((resolve, reject) =>
      client.exec('touch /tmp/executed; echo executed', (error, channel) => {
        if (error) return reject(error);
        channel.end();
        text(channel).then(resolve, reject);
      }),
    );
    expect(output).not.toContain('executed');
    await expect(access('/tmp/executed')).rejects.toThrow('ENOENT');
    const opening = (open: (done: (error: Error | undefined) => void) => unknown) =>
      new Promise<void>((resolve, reject) => open((error) => (error ? reject(error) : resolve())));
    await expect(
      opening((done) => client.forwardOut('127.0.0.1', 1, ADDRESS, ports.ssh, done)),
    ).rejects.toThrow(/open failed/i);
    await expect(
      opening((done) => client.openssh_forwardOutStreamLocal('/run/other.sock', done)),
    ).rejects.toThrow(/open failed/i);
    for (const socket of ['haproxy.sock', 'haproxy-master.sock'])
      await opening((done) => client.openssh_forwardOutStreamLocal(`/var/lib/kolla/haproxy/${socket}`, done));
  });

  test('is left as it is by a second run', { timeout: 120_000 }, async () => {
    const { status, output } = await cloud.kolla.play('kacme.yml', 'deploy');
    expect(status, output).toBe(0);
    expect(output).toMatch(/ctl1 .*changed=0/);
  });
});
