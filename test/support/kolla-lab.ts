import { chmod, chown, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { haproxyCommand } from './haproxy-cli.ts';
import { kollaHaproxyImage, kollaImage, sshImage } from './images.ts';
import type { Finished } from './kacme.ts';
import { startNetwork, type TestMachine } from './machines.ts';
import { startPebble, type TestPebble } from './pebble.ts';
import { startPodman, type TestContainer, type TestPodman } from './podman.ts';
import { scratchDirectory } from './scratch.ts';
import { createIdentity } from './sshd.ts';

const SSH_PORT = 2986;
const CHALLENGE_PORT = 8081;
const OPERATIONS_PORT = 8083;
export const VERIFY_PORT = 8444;
/** Kolla's, of the image of HAProxy and of the group of the socket. */
export const HAPROXY_UID = 42454;
const KOLLA_GID = 42400;
const CONFIG_FILES = '/var/lib/kolla/config_files';
const CERTIFICATES = '/etc/haproxy/certificates';
const SOCKETS = '/var/lib/kolla/haproxy';
const NAME = 'cloud.test';

export interface KollaLabOptions {
  /** Containers see their images, and whatever they write is on volumes and tmpfs. */
  readonly readOnly: boolean;
}

export interface Controller {
  readonly address: string;
  /** Its copy of the bundle, as this machine sees it. */
  readonly bundlePath: string;
  startHaproxy(): Promise<void>;
  startSsh(): Promise<void>;
  /** Ends all of its containers (kacme's apart). */
  stop(): Promise<void>;
  /** The process id of the HAProxy that serves, in its own words. */
  worker(): Promise<string>;
}

/** Three controllers of a cloud that Kolla Ansible deployed, the virtual address and kacme on the first of them, and a CA. */
export interface KollaLab extends AsyncDisposable {
  readonly name: string;
  readonly virtualAddress: string;
  readonly pebble: TestPebble;
  readonly controllers: readonly [Controller, Controller, Controller];
  /** The one-shot container `bootstrap_kacme`. */
  bootstrap(): Promise<Finished>;
  serve(): Promise<TestContainer>;
  readonly operationsUrl: string;
  /** What Kolla Ansible writes for kacme: config.json and what it lists. */
  readonly configFiles: string;
  close(): Promise<void>;
}

/** Everything is prepared; no container runs but the CA. Needs what `whyNoNetworks` says. */
export async function startKollaLab({ readOnly }: KollaLabOptions): Promise<KollaLab> {
  const cleanup: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (let step = cleanup.pop(); step !== undefined; step = cleanup.pop()) await step();
  };
  try {
    const scratch = await scratchDirectory();
    cleanup.push(scratch.remove);
    await chmod(scratch.path, 0o711);
    const network = await startNetwork();
    cleanup.push(network.close);
    const machines = [
      await network.addMachine(),
      await network.addMachine(),
      await network.addMachine(),
    ] as const;
    const virtualAddress = network.freeAddress();
    await machines[0].take(virtualAddress);
    const pebble = await startPebble({
      address: network.address,
      httpPort: 80,
      defaultAddress: virtualAddress,
      reuseAuthorizations: 0,
    });
    cleanup.push(pebble.close);
    const podman = await startPodman();
    cleanup.push(podman.close);
    const images = {
      kacme: await kollaImage(podman),
      haproxy: await kollaHaproxyImage(podman),
      ssh: await sshImage(podman),
    };

    const kacmeFiles = join(scratch.path, 'kacme');
    await mkdir(kacmeFiles);
    const { publicKey } = await createIdentity(join(kacmeFiles, 'id_ed25519'));
    const site = {
      podman,
      images,
      virtualAddress,
      challengeServer: machines[0].address,
      publicKey,
      readOnly,
    };
    const controllers = await Promise.all(
      machines.map((machine, index) =>
        prepareController(machine, join(scratch.path, `controller-${index}`), site),
      ),
    );
    await writeKacmeFiles(kacmeFiles, {
      machines,
      pebble,
      knownHosts: controllers.map(({ knownHost }) => knownHost),
    });

    const volume = (name: string) => `${podman.directory.replace(/^.*\//, '')}-${name}`;
    cleanup.push(() => podman.podman('volume', 'rm', '--force', volume('store'), volume('logs')));
    await writeFile(join(scratch.path, 'run_command'), '');
    const container = {
      image: images.kacme,
      flags: [
        ...['--network', machines[0].network, '-e', 'KOLLA_CONFIG_STRATEGY=COPY_ALWAYS'],
        ...['-v', `${kacmeFiles}:${CONFIG_FILES}:ro`],
        ...['-v', `${volume('store')}:/var/lib/kacme`, '-v', `${volume('logs')}:/var/log/kolla`],
        // What kolla_set_configs writes to.
        ...(readOnly ? readOnlyRoot(join(scratch.path, 'run_command'), ['/etc/kacme']) : []),
      ],
    };
    const [first, second, third] = controllers;
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('three were made');
    return {
      name: NAME,
      virtualAddress,
      pebble,
      controllers: [first, second, third],
      bootstrap: () => podman.run({ ...container, flags: [...container.flags, '-e', 'KOLLA_BOOTSTRAP='] }),
      serve: () => podman.start({ ...container, ready: (output) => output.includes('"msg":"kacme is up"') }),
      operationsUrl: `http://${machines[0].address}:${OPERATIONS_PORT}`,
      configFiles: kacmeFiles,
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Kolla's contract writes the command to a file of the root directory; a volume keeps the owner of its directory, a tmpfs does not. */
const readOnlyRoot = (runCommand: string, volumes: readonly string[]): readonly string[] => [
  ...['--read-only', '--read-only-tmpfs=false', '--tmpfs', '/tmp', '--tmpfs', '/run'],
  ...volumes.flatMap((path) => ['-v', path]),
  ...['-v', `${runCommand}:/run_command`],
];

interface Site {
  readonly podman: TestPodman;
  readonly images: { readonly haproxy: string; readonly ssh: string };
  readonly virtualAddress: string;
  readonly challengeServer: string;
  /** Of kacme's identity. */
  readonly publicKey: string;
  readonly readOnly: boolean;
}

async function prepareController(
  { address, network }: TestMachine,
  directory: string,
  site: Site,
): Promise<Controller & { readonly knownHost: string }> {
  const { podman, images, readOnly } = site;
  const at = (name: string) => join(directory, name);
  await mkdir(directory, { mode: 0o711 });
  for (const name of ['certificates', 'sockets', 'ssh']) {
    await mkdir(at(name), { mode: 0o750 });
    await chown(at(name), HAPROXY_UID, HAPROXY_UID);
  }
  await mkdir(at('haproxy'));
  await writeFile(at('haproxy/haproxy.cfg'), haproxyConfiguration(address, site));
  await writeFile(at('haproxy/haproxy_run.sh'), HAPROXY_RUN);
  await writeFile(at('haproxy/config.json'), JSON.stringify(HAPROXY_FILES));
  await writeFile(
    at('authorized_keys'),
    `from="${site.challengeServer}",restrict,port-forwarding ${site.publicKey}\n`,
  );
  const hostKey = await createIdentity(at('ssh/ssh_host_ed25519_key'));
  for (const name of ['', '.pub']) await chown(`${hostKey.identityFile}${name}`, HAPROXY_UID, HAPROXY_UID);
  await writeFile(at('run_command'), '');

  const shared = [
    ...['--network', network],
    ...['-v', `${at('sockets')}:${SOCKETS}`, '-v', `${at('certificates')}:${CERTIFICATES}`],
  ];
  const running: TestContainer[] = [];
  return {
    address,
    bundlePath: at('certificates/haproxy.pem'),
    knownHost: `[${address}]:${SSH_PORT} ${hostKey.publicKey}`,
    startHaproxy: async () => {
      const haproxy = await podman.start({
        image: images.haproxy,
        flags: [
          ...shared,
          ...['-v', `${at('haproxy')}:${CONFIG_FILES}:ro`, '-e', 'KOLLA_CONFIG_STRATEGY=COPY_ALWAYS'],
          ...(readOnly ? readOnlyRoot(at('run_command'), ['/etc/haproxy']) : []),
        ],
        ready: (output) => output.includes('Loading success'),
      });
      running.push(haproxy);
    },
    startSsh: async () => {
      const sshd = await podman.start({
        image: images.ssh,
        flags: [
          ...shared,
          ...['--user', `${HAPROXY_UID}:${HAPROXY_UID}`, '--group-add', String(KOLLA_GID)],
          ...['--read-only', '--read-only-tmpfs=false', '--tmpfs', '/run/kacme-ssh'],
          ...['--cap-drop=all', '--security-opt=no-new-privileges'],
          ...['-v', `${at('ssh')}:/var/lib/kacme-ssh`],
          ...['-v', `${at('authorized_keys')}:/etc/kacme-ssh/authorized_keys:ro`],
          ...['-e', `KACME_SSH_LISTEN=${address}`, '-e', `KACME_SSH_PORT=${SSH_PORT}`],
          ...['-e', `KACME_SSH_SOCKETS=${SOCKETS}/haproxy.sock ${SOCKETS}/master.sock`],
        ],
        ready: (output) => output.includes('Server listening on'),
      });
      running.push(sshd);
    },
    stop: async () => {
      await Promise.all(running.splice(0).map((container) => container.stop()));
    },
    worker: async () => {
      const info = await haproxyCommand(at('sockets/haproxy.sock'), 'show info');
      return /^Pid: (\d+)$/m.exec(info)?.[1] ?? '';
    },
  };
}

/** As Kolla Ansible renders it, as far as certificates go, with the master socket and the verification frontend of the role. */
function haproxyConfiguration(address: string, { virtualAddress, challengeServer }: Site): string {
  const crt = `ssl crt ${CERTIFICATES}/haproxy.pem`;
  return `
global
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    maxconn 4000
    stats socket ${SOCKETS}/haproxy.sock group kolla mode 660 level admin
    # Every handshake of a test must show the certificate, none may be resumed.
    tune.ssl.cachesize 0
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets

defaults
    mode http
    timeout connect 10s
    timeout client 1m
    timeout server 1m

frontend external_frontend
    bind ${virtualAddress}:443 ${crt}
    http-request return status 200 content-type text/plain string "an API of the cloud"

frontend external_redirect
    bind ${virtualAddress}:80
    use_backend acme_client_back if { path_reg ^/.well-known/acme-challenge/.+ }
    http-request redirect scheme https code 301 unless { path_reg ^/.well-known/acme-challenge/.+ }

frontend kacme_verify
    bind ${address}:${VERIFY_PORT} ${crt}
    http-request return status 200 content-type text/plain string "an API of the cloud"

backend acme_client_back
    server kacme ${challengeServer}:${CHALLENGE_PORT}
`;
}

/** What Kolla's start script does: without a bundle HAProxy gets one for a day. */
const HAPROXY_RUN = `#!/bin/bash
set -o errexit -o pipefail
pem=${CERTIFICATES}/haproxy.pem
if [[ ! -e $pem ]]; then
    work=$(mktemp -d)
    openssl req -quiet -x509 -newkey rsa:2048 -days 1 -nodes -keyout "$work/key" -out "$work/crt" -subj /CN=${NAME}
    cat "$work/crt" "$work/key" > "$pem"
    rm -r "$work"
    chown haproxy:haproxy "$pem"
    chmod 0660 "$pem"
fi
exec /usr/sbin/haproxy -W -S ${SOCKETS}/master.sock,group,kolla,mode,660 -db -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg
`;

const HAPROXY_FILES = {
  command: '/etc/haproxy/haproxy_run.sh',
  config_files: [
    {
      source: `${CONFIG_FILES}/haproxy_run.sh`,
      dest: '/etc/haproxy/haproxy_run.sh',
      owner: 'root',
      perm: '0700',
    },
    { source: `${CONFIG_FILES}/haproxy.cfg`, dest: '/etc/haproxy/haproxy.cfg', owner: 'root', perm: '0600' },
  ],
};

interface KacmeFacts {
  readonly machines: readonly [TestMachine, ...TestMachine[]];
  readonly pebble: TestPebble;
  readonly knownHosts: readonly string[];
}

/** config.json and what it lists, beside the identity that is there already. */
async function writeKacmeFiles(
  directory: string,
  { machines, pebble, knownHosts }: KacmeFacts,
): Promise<void> {
  const at = (name: string) => join(directory, name);
  const { address } = machines[0];
  const configuration = {
    issuers: {
      pebble: {
        directory: pebble.directoryUrl,
        caFile: '/etc/kacme/ca.pem',
        contact: ['mailto:ops@example.org'],
        termsOfServiceAgreed: true,
      },
    },
    certificates: { external: { identifiers: [NAME], issuers: ['pebble'] } },
    pools: {
      loadbalancers: {
        hosts: machines.map((machine) => machine.address),
        ssh: {
          user: 'kacme',
          port: SSH_PORT,
          identity: { file: '/etc/kacme/id_ed25519' },
          knownHosts: '/etc/kacme/known_hosts',
        },
        haproxy: { socket: `${SOCKETS}/haproxy.sock`, masterSocket: `${SOCKETS}/master.sock` },
        verify: { connect: [`{host}:${VERIFY_PORT}`] },
      },
    },
    deployments: [{ certificate: 'external', pool: 'loadbalancers', path: `${CERTIFICATES}/haproxy.pem` }],
    challenge: { listen: `${address}:${CHALLENGE_PORT}`, resolvers: [pebble.dns] },
    operations: { listen: `${address}:${OPERATIONS_PORT}` },
    reconcile: { every: '2s' },
    store: { file: '/var/lib/kacme' },
  };
  await writeFile(at('kacme.yaml'), JSON.stringify(configuration));
  await writeFile(at('known_hosts'), `${knownHosts.join('\n')}\n`);
  await copyFile(pebble.caFile, at('ca.pem'));
  const files = { 'kacme.yaml': '0600', id_ed25519: '0600', known_hosts: '0644', 'ca.pem': '0644' };
  await writeFile(
    at('config.json'),
    JSON.stringify({
      command: 'kacme serve',
      config_files: Object.entries(files).map(([name, perm]) => ({
        source: `${CONFIG_FILES}/${name}`,
        dest: `/etc/kacme/${name}`,
        owner: 'kacme',
        perm,
      })),
      permissions: [
        { path: '/var/log/kolla/kacme', owner: 'kacme:kolla', perm: '2775' },
        { path: '/var/lib/kacme', owner: 'kacme:kacme', perm: '0700' },
      ],
    }),
  );
}
