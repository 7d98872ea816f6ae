import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { builtImage } from '../setup/built-images.mjs';
import { BASE_IMAGES } from '../setup/containers.mjs';
import { composePath } from '../setup/newer-debian.mjs';
import { Cleanup } from './cleanup.ts';
import { plainImage, sshImage } from './images.ts';
import type { Finished } from './kacme.ts';
import { startNetwork, type TestMachine } from './machines.ts';
import { startPodman, type TestPodman } from './podman.ts';
import { type RunningProcess, startProcess } from './process.ts';

const directory = join(import.meta.dirname, '..', '..', 'docker', 'lab');

export interface Build {
  readonly context: string;
  readonly dockerfile: string;
  readonly target?: string;
}

/** What `docker compose config` makes of a compose file, as far as tests look. */
export interface ComposeConfig {
  readonly services: Readonly<
    Record<string, { readonly image: string; readonly build?: Build; readonly healthcheck?: object }>
  >;
}

/** docker/lab, on a machine of its own. */
export interface ComposeLab extends AsyncDisposable {
  /** Where its ports are published. */
  readonly address: string;
  /** `docker compose -f docker/lab/compose.yaml ARGS`, to its end. */
  compose(...args: string[]): Promise<Finished>;
  /** PEM of the root that signs what the lab's CA issues. */
  issuingRoot(): Promise<string>;
  close(): Promise<void>;
}

/** Validates the compose file and resolves to what it says, with nothing running. */
export async function composeConfig(): Promise<ComposeConfig> {
  const { status, stdout, stderr } = await runCompose(['config', '--format', 'json'], {});
  if (status !== 0) throw new Error(`docker compose config ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

/**
 * Docker Compose itself, with Podman's service in the engine's place; networks that it makes are in a namespace of its
 * own. Its images are there already: it could pull no base of theirs. Needs what `whyNoNetworks` says.
 */
export async function startComposeLab(config: ComposeConfig): Promise<ComposeLab> {
  const cleanup = new Cleanup();
  const { close } = cleanup;
  try {
    const network = await startNetwork();
    cleanup.add(network.close);
    const machine = await network.addMachine();
    const podman = await startPodman();
    cleanup.add(podman.close);
    await makeImages(podman, config);
    const socket = join(podman.directory, 'podman.sock');
    const engine = await startEngine(podman, machine, socket);
    cleanup.add(engine.stop);
    const env = { DOCKER_HOST: `unix://${socket}`, KACME_LAB_ADDRESS: machine.address };
    const override = join(podman.directory, 'limits.json');
    await writeFile(override, JSON.stringify({ services: limits(config) }));
    const compose = (...args: string[]) => runCompose(['-f', override, ...args], env);
    cleanup.add(() => compose('down', '--volumes', '--timeout', '3'));
    const checks = runHealthchecks(podman, socket, config);
    cleanup.add(checks.stop);
    const { address } = machine;
    const issuingRoot = () => rootAt(`https://${address}:15000/roots/0`);
    return { address, compose, issuingRoot, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Podman's service in a process namespace (pid_namespaces(7)) that all of its containers end with, and with a /run of its
 * own: what it notes there about its networks is the whole machine's otherwise.
 */
async function startEngine(
  podman: TestPodman,
  machine: TestMachine,
  socket: string,
): Promise<RunningProcess> {
  const state = join(podman.directory, 'run');
  await mkdir(state);
  const [command = '', ...enter] = machine.enter;
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const script = 'mount --bind "$0" "$1" && shift && exec "$@"';
  const service = [podman.command, 'system', 'service', '--time', '0', `unix://${socket}`];
  return startProcess({
    name: "Podman's service",
    command,
    args: [...enter, ...namespaces, 'sh', '-c', script, state, '/run', ...service],
    env: Object.fromEntries(Object.entries(podman.env).map(([name, value]) => [name, value ?? ''])),
    ready: () => accepts(socket),
  });
}

/** Each image that a service builds, from the file and the stage that it says, on a base that is here. */
async function makeImages(podman: TestPodman, { services }: ComposeConfig): Promise<void> {
  const made = new Set<string>();
  for (const { image, build } of Object.values(services)) {
    if (build === undefined || made.has(image)) continue;
    made.add(image);
    const { context, target } = build;
    const file = join(context, build.dockerfile);
    if (context === directory && target !== undefined) {
      const inputs = ['Dockerfile', 'make-keys', 'haproxy/start'].map((name) => join(context, name));
      const recipe = { tag: image, file, context, target, inputs, args: { BASE: BASE_IMAGES.debian } };
      podman.readFrom(await builtImage(recipe));
      continue;
    }
    // The images of docker/ themselves, which other tests have made from the same files.
    const own = file.includes('/docker/ssh/') ? await sshImage(podman) : await plainImage(podman);
    await podman.podman('tag', own, image);
  }
}

/** What Podman's service asks for otherwise needs CAP_SYS_RESOURCE. */
const limits = ({ services }: ComposeConfig) => {
  const ulimits = { nofile: { soft: 4096, hard: 4096 }, nproc: { soft: 4096, hard: 4096 } };
  return Object.fromEntries(Object.keys(services).map((name) => [name, { ulimits }]));
};

/** An engine would run them by itself; Podman leaves that to systemd. */
function runHealthchecks(
  podman: TestPodman,
  socket: string,
  { services }: ComposeConfig,
): { stop(): Promise<void> } {
  const checked = Object.entries(services).filter(([, { healthcheck }]) => healthcheck !== undefined);
  const names = checked.map(([name]) => `kacme-lab-${name}-1`);
  let stopped = false;
  const loop = (async () => {
    while (!stopped) {
      for (const name of names)
        await podman.podman('--remote', '--url', `unix://${socket}`, 'healthcheck', 'run', name);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  })();
  return {
    stop: () => {
      stopped = true;
      return loop;
    },
  };
}

/** Nobody is trusted for it: what it is compared with comes over the same network. */
function rootAt(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { rejectUnauthorized: false, agent: false }, (response) =>
      text(response).then(resolve, reject),
    );
    asked.on('error', reject).end();
  });
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

function runCompose(args: readonly string[], env: NodeJS.ProcessEnv): Promise<Finished> {
  const { PATH, HOME } = process.env;
  const child = spawn(composePath(), ['-f', join(directory, 'compose.yaml'), ...args], {
    env: { PATH, HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (status) => resolve({ status, stdout, stderr }));
  });
}
