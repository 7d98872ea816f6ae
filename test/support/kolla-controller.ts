import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import type { TestMachine } from './machines.ts';
import type { TestPodman } from './podman.ts';
import { descendants, startProcess } from './process.ts';

/** Of open files, and of processes: Podman's service takes the first of two numbers for the second. */
export const LIMIT = 4096;

/** A host as Kolla Ansible finds it: an engine with its service, systemd's directory of units, an /etc and a /run of its own. */
export interface Controller extends AsyncDisposable {
  /** What lies at /etc/kolla there. */
  readonly kolla: string;
  /** What a command line begins with that is run there. */
  readonly enter: readonly string[];
  /** A directory of its own that both sides see at this path. */
  readonly scratch: string;
  /** Programs here are found there before those of the machine. */
  readonly bin: string;
  readonly path: string;
  stop(): Promise<void>;
}

/**
 * One in a network namespace, with Podman's service at its usual place. All of its containers end with it
 * (pid_namespaces(7)).
 */
export async function startController(podman: TestPodman, machine: TestMachine): Promise<Controller> {
  const at = (name: string) => join(podman.directory, 'controller', name);
  for (const name of ['run/podman', 'etc', 'kolla', 'bin']) await mkdir(at(name), { recursive: true });
  const { CONTAINERS_CONF: conf = '' } = podman.env;
  const limits = `"nofile=${LIMIT}:${LIMIT}"`;
  await writeFile(at('containers.conf'), (await readFile(conf, 'utf8')).replace(/"nofile=[^"]*"/, limits));
  const environment = Object.entries({ ...podman.env, CONTAINERS_CONF: at('containers.conf') }).map(
    ([name, value]) => `${name}='${value ?? ''}'`,
  );
  await writeFile(at('bin/podman'), `#!/bin/sh\nexec env ${environment.join(' ')} ${podman.command} "$@"\n`, {
    mode: 0o755,
  });
  const [command = '', ...enter] = machine.enter;
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const engine = await startProcess({
    name: "Podman's service",
    command,
    args: [...enter, ...namespaces, 'sh', '-e', '-c', CONTROLLER, at('.'), at('bin/podman')],
    env: { PATH: process.env['PATH'] ?? '' },
    ready: () => accepts(at('run/podman/podman.sock')),
  });
  const [inside] = descendants(engine.pid);
  return {
    kolla: at('kolla'),
    enter: ['nsenter', '--target', String(inside), '--net', '--mount', '--pid'],
    scratch: at('.'),
    bin: at('bin'),
    path: `${at('bin')}:/usr/sbin:/usr/bin:/sbin:/bin`,
    stop: engine.stop,
    [Symbol.asyncDispose]: engine.stop,
  };
}

/** Nothing that is written to /etc here reaches the machine that runs the tests. */
const CONTROLLER = `
mount --bind "$0/run" /run
mount -t tmpfs none "$0/etc"
mkdir "$0/etc/upper" "$0/etc/work"
mount -t overlay none -o "lowerdir=/etc,upperdir=$0/etc/upper,workdir=$0/etc/work" /etc
mkdir -p /etc/kolla /etc/systemd/system
mount --bind "$0/kolla" /etc/kolla
exec "$1" system service --time 0 unix:///run/podman/podman.sock
`;

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}
