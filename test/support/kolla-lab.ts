import { once } from 'node:events';
import { chmod, mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { prepareKolla, type TestKolla } from './ansible.ts';
import { Cleanup } from './cleanup.ts';
import { haproxyCommand } from './haproxy-cli.ts';
import { kollaHaproxyImage, kollaImage, kollaSshImage } from './images.ts';
import type { Finished } from './kacme.ts';
import { type HostEngine, startEngine } from './kolla-engine.ts';
import { startNetwork, type TestMachine } from './machines.ts';
import { startPebble, type TestPebble } from './pebble.ts';
import { startPodman } from './podman.ts';
import { scratchDirectory } from './scratch.ts';

/** The defaults of the role, and of Kolla. */
export const VERIFY_PORT = 8444;
export const HTTPS_PORT = 443;
export const HTTP_PORT = 80;
export const SSH_PORT = 2986;
const OPERATIONS_PORT = 8083;
/** Of Kolla's images. */
export const HAPROXY_UID = 42454;

/** One of the two sides of a cloud: its name, its virtual address, and the CA of its certificate. */
export interface CloudSide {
  readonly name: string;
  readonly virtualAddress: string;
  readonly ca: TestPebble;
}

export interface ContainerState {
  readonly id: string;
  readonly startedAt: string;
  readonly running: boolean;
  /** Of its last end. */
  readonly exitCode: number;
  /** Of its first process, as this machine counts. */
  readonly pid: number;
}

export interface Controller {
  readonly name: string;
  readonly address: string;
  /** What docker(1) would do there. */
  engine(...args: string[]): Promise<Finished>;
  /** Undefined when there is no such container. */
  container(name: string): Promise<ContainerState | undefined>;
  /** Where the files of a named volume lie on this machine. */
  volume(name: string): string;
  /** The process id of the HAProxy that serves, in its own words. */
  worker(): Promise<string>;
  /** What a command line begins with that is run on its network. */
  readonly enter: readonly string[];
}

/**
 * A cloud that Kolla Ansible deploys: three controllers, each a network namespace and a host of the inventory with an
 * engine that runs real containers. Nothing is deployed yet; the playbooks do everything.
 */
export interface KollaLab extends AsyncDisposable {
  readonly kolla: TestKolla;
  readonly controllers: readonly [Controller, Controller, Controller];
  /** A public CA. */
  readonly external: CloudSide;
  /** A private one, with roots of its own. */
  readonly internal: CloudSide;
  /** Of kacme, on the first controller. */
  readonly operationsUrl: string;
  /** Both virtual addresses, as keepalived does. */
  moveVirtualAddresses(to: Controller): Promise<void>;
  /** Its containers end, and Ansible does not reach it. */
  takeDown(controller: Controller): Promise<void>;
  /** The engine starts what it ran, as after a boot. */
  bringBack(controller: Controller): Promise<void>;
  close(): Promise<void>;
}

export interface KollaLabOptions {
  /** What globals.yml says besides. */
  readonly globals?: Readonly<Record<string, unknown>>;
  /** Groups of the inventory besides those of every cloud. */
  readonly groups?: Readonly<Record<string, readonly string[]>>;
}

/** Needs what `whyNoNetworks` says. */
export async function startKollaLab(options: KollaLabOptions = {}): Promise<KollaLab> {
  const cleanup = new Cleanup();
  const { close } = cleanup;
  try {
    const scratch = await scratchDirectory();
    cleanup.add(scratch.remove);
    await chmod(scratch.path, 0o711);
    const network = await startNetwork();
    cleanup.add(network.close);
    const machines = [
      await network.addMachine(),
      await network.addMachine(),
      await network.addMachine(),
    ] as const;
    const [internalAddress, externalAddress] = [network.freeAddress(), network.freeAddress()];
    const side = async (name: string, virtualAddress: string): Promise<CloudSide> => {
      const ca = await startPebble({
        address: network.address,
        httpPort: HTTP_PORT,
        defaultAddress: externalAddress,
        reuseAuthorizations: 0,
      });
      cleanup.add(ca.close);
      await ca.setAddresses('internal.cloud.test', [internalAddress]);
      return { name, virtualAddress, ca };
    };
    const external = await side('cloud.test', externalAddress);
    const internal = await side('internal.cloud.test', internalAddress);
    const backend = await startBackend(network.address);
    cleanup.add(backend.close);

    const podman = await startPodman();
    cleanup.add(podman.close);
    for (const image of [kollaImage, kollaSshImage, kollaHaproxyImage]) await image(podman);
    const engines = join(scratch.path, 'engines');
    await mkdir(engines);
    const addController = async (machine: TestMachine, name: string) => {
      const engine = await startEngine({
        directory: join(scratch.path, name),
        stores: podman.stores(),
        machine,
        program: join(engines, name),
      });
      cleanup.add(engine.close);
      return controllerOf(name, machine, engine);
    };
    const controllers = [
      await addController(machines[0], 'ctl1'),
      await addController(machines[1], 'ctl2'),
      await addController(machines[2], 'ctl3'),
    ] as const;

    const kolla = await prepareKolla({
      controllers,
      engines,
      ...(options.groups === undefined ? {} : { groups: options.groups }),
      globals: {
        standin_internal_vip: internalAddress,
        standin_external_vip: externalAddress,
        standin_http_port: String(HTTP_PORT),
        standin_https_port: String(HTTPS_PORT),
        standin_monitor_port: '61313',
        standin_haproxy: true,
        standin_backend: backend.endpoint,
        // As the images of the lab are named.
        docker_image_url: 'localhost/kacme-lab/',
        openstack_tag: 'latest',
        kolla_internal_fqdn: internal.name,
        kolla_external_fqdn: external.name,
        kolla_enable_tls_internal: true,
        kolla_enable_tls_external: true,
        kacme_acme_contact: ['ops@cloud.test'],
        kacme_acme_terms_of_service_agreed: true,
        kacme_acme_directory: external.ca.directoryUrl,
        kacme_acme_ca_file: external.ca.caFile,
        kacme_internal_acme_directory: internal.ca.directoryUrl,
        kacme_internal_acme_ca_file: internal.ca.caFile,
        kacme_resolvers: [external.ca.dns],
        kacme_config_override: { reconcile: { every: '2s' } },
        // What nobody looks at takes time to render.
        enable_fluentd: false,
        enable_prometheus: false,
        ...options.globals,
      },
    });
    cleanup.add(() => kolla[Symbol.asyncDispose]());

    let holder = machines[0];
    for (const address of [internalAddress, externalAddress]) await holder.take(address);
    return {
      kolla,
      controllers,
      external,
      internal,
      operationsUrl: `http://${machines[0].address}:${OPERATIONS_PORT}`,
      moveVirtualAddresses: async (to) => {
        const next = machines[controllers.indexOf(to)];
        if (next === undefined) throw new Error(`${to.name} is no controller of this cloud`);
        for (const address of [internalAddress, externalAddress]) {
          await holder.giveUp(address);
          await next.take(address);
        }
        holder = next;
      },
      takeDown: async (controller) => {
        await controller.engine('stop', '--all', '--time', '1');
        await kolla.setDown([controller.name]);
      },
      bringBack: async (controller) => {
        await kolla.setDown([]);
        await controller.engine('start', '--all');
      },
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function controllerOf(name: string, { address, enter }: TestMachine, engine: HostEngine): Controller {
  return {
    name,
    address,
    enter,
    engine: engine.run,
    container: async (container) => {
      const { status, stdout } = await engine.run('container', 'inspect', container);
      if (status !== 0) return undefined;
      const [found] = JSON.parse(stdout);
      const { StartedAt: startedAt, Running: running, Pid: pid, ExitCode: exitCode } = found.State;
      return { id: found.Id, startedAt, running, pid, exitCode };
    },
    volume: engine.volume,
    worker: async () => {
      const info = await haproxyCommand(join(engine.volume('haproxy_socket'), 'haproxy.sock'), 'show info');
      return /^Pid: (\d+)$/m.exec(info)?.[1] ?? '';
    },
  };
}

/** What is behind the frontends of the cloud. */
async function startBackend(address: string) {
  const server = createServer((_, response) => response.end('an API of the cloud')).listen(0, address);
  await once(server, 'listening');
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error(`no TCP port on ${address}`);
  return {
    endpoint: `${address}:${bound.port}`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
