import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { podmanIn, runcPath } from '../setup/containers.mjs';
import { dockerPrograms } from '../setup/newer-debian.mjs';
import { eventually } from './eventually.ts';
import type { TestMachine } from './machines.ts';
import type { TestPodman } from './podman.ts';
import { descendants, isAlive, startProcess } from './process.ts';

const run = promisify(execFile);

/** Of open files, and of processes: Podman's service takes the first of two numbers for the second. */
export const LIMIT = 4096;
/** Of the machine itself, in its own network: no other has it. */
export const REGISTRY = '127.0.0.1:5000';

export type ContainerEngine = 'podman' | 'docker';

/** A host as Kolla Ansible finds it: an engine with its service, systemd's directory of units, an /etc and a /run of its own. */
export interface Controller extends AsyncDisposable {
  readonly engine: ContainerEngine;
  /** What lies at /etc/kolla there. */
  readonly kolla: string;
  /** What a command line begins with that is run there. */
  readonly enter: readonly string[];
  /** A directory of its own that both sides see at this path. */
  readonly scratch: string;
  /** Programs here are found there before those of the machine. */
  readonly bin: string;
  readonly path: string;
  /** Where the files of a named volume lie on this machine. */
  volume(name: string): string;
  stop(): Promise<void>;
}

export interface ControllerOptions {
  readonly machine: TestMachine;
  readonly engine: ContainerEngine;
  /** Where the engine has its images from. */
  readonly podman: TestPodman;
  /** By name: those that it has when it starts. */
  readonly images: readonly string[];
}

/** One in a network namespace, with the engine's service at its usual place. All of its containers end with it (pid_namespaces(7)). */
export async function startController({
  machine,
  engine,
  podman,
  images,
}: ControllerOptions): Promise<Controller> {
  const scratch = join(podman.directory, 'controller');
  const at = (name: string) => join(scratch, name);
  for (const name of ['run/podman', 'etc', 'kolla', 'bin']) await mkdir(at(name), { recursive: true });
  const { service, socket, path, volumes } = await (engine === 'docker' ? docker : onPodman)(at, podman);
  const [command = '', ...enter] = machine.enter;
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const running = await startProcess({
    name: `the service of ${engine}`,
    command,
    args: [...enter, ...namespaces, 'sh', '-e', '-c', CONTROLLER, scratch, ...service],
    env: { PATH: path },
    ready: () => accepts(at(socket)),
    readyWithinMs: 60_000,
  });
  const [inside = -1] = descendants(running.pid);
  const entering = ['--target', String(inside), '--net', '--mount', '--pid'];
  const program = (...args: string[]) => run('nsenter', [...entering, at(`bin/${engine}`), ...args]);
  const stop = async () => {
    try {
      // What a container leaves outside of the namespaces, such as its control group, goes with the container alone.
      const { stdout } = await program('ps', '--all', '--quiet');
      const containers = stdout.split('\n').filter(Boolean);
      const atOnce = engine === 'docker' ? [] : ['--time', '0'];
      if (containers.length > 0) await program('rm', '--force', ...atOnce, ...containers);
    } finally {
      await running.stop();
      // It ends after every other process there (pid_namespaces(7)), and until then files may still be written.
      await eventually(`${engine} is gone`, () => !isAlive(inside));
    }
  };
  try {
    if (engine === 'docker') await load(podman, images, at('images.tar'), program);
  } catch (error) {
    await running.stop();
    throw error;
  }
  return {
    engine,
    kolla: at('kolla'),
    enter: ['nsenter', ...entering],
    scratch,
    bin: at('bin'),
    path: `${at('bin')}:/usr/sbin:/usr/bin:/sbin:/bin`,
    volume: (name) => join(volumes, name, '_data'),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** How an engine is started there. */
interface Service {
  readonly service: readonly string[];
  /** Below /run: it answers when this one does. */
  readonly socket: string;
  readonly path: string;
  /** A directory. */
  readonly volumes: string;
}

const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin' } = process.env;

async function onPodman(at: (name: string) => string, podman: TestPodman): Promise<Service> {
  const { command, env } = podmanIn(at('podman'), { stores: podman.stores() });
  const { CONTAINERS_CONF: conf, CONTAINERS_REGISTRIES_CONF: registries } = env;
  const limits = `"nofile=${LIMIT}:${LIMIT}"`;
  await writeFile(conf, (await readFile(conf, 'utf8')).replace(/"nofile=[^"]*"/, limits));
  await writeFile(registries, `[[registry]]\nlocation = "${REGISTRY}"\ninsecure = true\n`);
  const environment = Object.entries(env).map(([name, value]) => `${name}='${value}'`);
  await writeFile(at('bin/podman'), `#!/bin/sh\nexec env ${environment.join(' ')} ${command} "$@"\n`, {
    mode: 0o755,
  });
  const socket = 'run/podman/podman.sock';
  return {
    service: [at('bin/podman'), 'system', 'service', '--time', '0', `unix:///${socket}`],
    socket,
    path: PATH,
    volumes: at('podman/graph/volumes'),
  };
}

async function docker(at: (name: string) => string): Promise<Service> {
  const { dockerd, docker: client } = dockerPrograms();
  await writeFile(at('bin/docker'), `#!/bin/sh\nexec ${client} "$@"\n`, { mode: 0o755 });
  const socket = 'run/docker.sock';
  return {
    service: [
      ...[
        dockerd,
        '--data-root',
        at('docker'),
        '--host',
        `unix:///${socket}`,
        '--pidfile',
        '/run/docker.pid',
      ],
      // All that Kolla runs is on the network of the host.
      ...['--bridge=none', '--iptables=false', '--ip6tables=false'],
    ],
    socket,
    path: [dirname(dockerd), dirname(client), dirname(runcPath()), PATH].join(':'),
    volumes: at('docker/volumes'),
  };
}

async function load(
  podman: TestPodman,
  images: readonly string[],
  archive: string,
  program: (...args: string[]) => Promise<unknown>,
): Promise<void> {
  const flags = ['--quiet', '--multi-image-archive', '--format', 'docker-archive', '--output', archive];
  const { status, stderr } = await podman.podman('save', ...flags, ...images);
  if (status !== 0) throw new Error(`podman save ended with ${status}: ${stderr}`);
  await program('load', '--quiet', '--input', archive);
  await rm(archive);
}

/** Nothing that is written to /etc here reaches the machine that runs the tests. */
const CONTROLLER = `
mount --bind "$0/run" /run
mount -t tmpfs none "$0/etc"
mkdir "$0/etc/upper" "$0/etc/work"
mount -t overlay none -o "lowerdir=/etc,upperdir=$0/etc/upper,workdir=$0/etc/work" /etc
mkdir -p /etc/kolla /etc/systemd/system
mount --bind "$0/kolla" /etc/kolla
exec "$@"
`;

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}
