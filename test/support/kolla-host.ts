import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { whyNoNetworks } from '../setup/containers.mjs';
import { Cleanup } from './cleanup.ts';
import { kollaHaproxyImage, kollaImage, kollaSshImage } from './images.ts';
import { installInto, type KollaAnsible } from './kolla-ansible.ts';
import { type ContainerEngine, LIMIT, startController } from './kolla-controller.ts';
import { startNetwork, type TestMachine } from './machines.ts';
import { startPebble, type TestPebble } from './pebble.ts';
import { startPodman, type TestPodman } from './podman.ts';

export const NAMES = { internal: 'internal.cloud.test', external: 'cloud.test' } as const;

/** What the tests with a checkout of Kolla Ansible read from the environment, and why they cannot be run. */
export async function whyNoKolla() {
  const { KOLLA_ANSIBLE_SRC: source = '', KOLLA_CONTAINER_ENGINE: engine = 'podman' } = process.env;
  if (engine !== 'podman' && engine !== 'docker')
    throw new Error(`KOLLA_CONTAINER_ENGINE: ${engine} is neither of podman (the default) and docker`);
  const obstacle =
    (await whyNoNetworks()) ??
    (source === '' ? 'KOLLA_ANSIBLE_SRC names no checkout of kolla-ansible' : undefined);
  return { source, engine, obstacle } as const;
}

/** A cloud of one host with Kolla Ansible itself. Nothing is deployed yet. */
export interface KollaHost extends AsyncDisposable {
  readonly kolla: KollaAnsible;
  readonly engine: ContainerEngine;
  readonly machine: TestMachine;
  /** Of both certificates. */
  readonly ca: TestPebble;
  readonly internalVip: string;
  readonly externalVip: string;
  /** A directory of its own that both sides see at this path. */
  readonly scratch: string;
  /** Where the files of a named volume lie on this machine. */
  volume(name: string): string;
  /** Its container engine: what it printed. */
  run(...args: string[]): Promise<string>;
  /** Names of those that run, or of what these flags of `ps` say, sorted. */
  containers(...flags: string[]): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface KollaHostOptions {
  /** Of the checkout. */
  readonly source: string;
  readonly engine: ContainerEngine;
  /** What globals.yml says besides. */
  readonly globals?: (ca: TestPebble) => Readonly<Record<string, unknown>>;
  /** Images besides those of kacme and HAProxy. */
  readonly images?: readonly ((podman: TestPodman) => Promise<string>)[];
}

/** Needs what `whyNoNetworks` says. */
export async function startKollaHost(options: KollaHostOptions): Promise<KollaHost> {
  const { source, engine, globals = () => ({}) } = options;
  const cleanup = new Cleanup();
  const { close } = cleanup;
  try {
    const network = await startNetwork();
    cleanup.add(network.close);
    const machine = await network.addMachine();
    const [internalVip, externalVip] = [network.freeAddress(), network.freeAddress()];
    for (const address of [internalVip, externalVip]) await machine.take(address);
    const ca = await startPebble({
      address: network.address,
      httpPort: 80,
      defaultAddress: externalVip,
      reuseAuthorizations: 0,
    });
    cleanup.add(ca.close);
    await ca.setAddresses(NAMES.internal, [internalVip]);
    const podman = await startPodman();
    cleanup.add(podman.close);
    const images: string[] = [];
    for (const image of [kollaHaproxyImage, kollaImage, kollaSshImage, ...(options.images ?? [])])
      images.push(await image(podman));
    const controller = await startController({ machine, engine, podman, images });
    cleanup.add(controller.stop);
    await copyFile(ca.caFile, join(controller.kolla, 'pebble-ca.pem'));
    const kolla = await installInto(controller, source, {
      kolla_internal_fqdn: NAMES.internal,
      kolla_external_fqdn: NAMES.external,
      kolla_internal_vip_address: internalVip,
      kolla_external_vip_address: externalVip,
      kolla_enable_tls_internal: true,
      kolla_enable_tls_external: true,
      network_interface: 'eth0',
      kolla_container_engine: engine,
      kolla_base_distro: 'debian',
      // As the images of the tests are named.
      docker_registry: 'localhost',
      docker_namespace: 'kacme-lab',
      openstack_tag: 'latest',
      // What else is in the loadbalancer's role has no image here.
      enable_keepalived: false,
      enable_proxysql: false,
      // Their frontends are like keystone's, and each takes its time to render.
      enable_openstack_core: false,
      enable_keystone: true,
      enable_horizon: true,
      haproxy_max_connections: 500,
      haproxy_defaults_max_connections: 500,
      default_container_dimensions: { ulimits: limitsFor(engine) },
      kacme_acme_directory: ca.directoryUrl,
      kacme_acme_ca_file: '/etc/kolla/pebble-ca.pem',
      kacme_acme_contact: ['ops@cloud.test'],
      kacme_acme_terms_of_service_agreed: true,
      kacme_resolvers: [ca.dns],
      ...globals(ca),
    });
    const run = async (...args: string[]) => {
      const { status, output } = await kolla.exec(engine, ...args);
      if (status !== 0) throw new Error(`${engine} ${args.join(' ')} ended with ${status}: ${output}`);
      return output;
    };
    return {
      kolla,
      engine,
      machine,
      ca,
      internalVip,
      externalVip,
      scratch: controller.scratch,
      volume: controller.volume,
      run,
      containers: async (...flags) =>
        (await run('ps', '--format', '{{.Names}}', ...flags)).split('\n').filter(Boolean).sort(),
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** As many as a machine grants that is a container itself; Kolla's own default is a million. */
function limitsFor(engine: ContainerEngine): Readonly<Record<string, unknown>> {
  const limit = { soft: LIMIT, hard: LIMIT };
  return engine === 'docker' ? { nofile: limit } : { RLIMIT_NOFILE: limit, RLIMIT_NPROC: limit };
}
