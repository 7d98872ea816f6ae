import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildFlags, podmanIn } from '../setup/containers.mjs';
import { withMachineLock } from '../setup/lock.mjs';
import { eventually } from './eventually.ts';
import type { Finished } from './kacme.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { scratchDirectory } from './scratch.ts';

export interface BuildOptions {
  /** Path of the Dockerfile. */
  readonly file: string;
  /** What COPY sees. */
  readonly context: string;
  readonly tag: string;
  readonly args?: Readonly<Record<string, string>>;
  /** More flags of podman-build(1). */
  readonly flags?: readonly string[];
}

export interface RunOptions {
  readonly image: string;
  /** Flags of podman-run(1). */
  readonly flags?: readonly string[];
  /** Command or arguments. */
  readonly args?: readonly string[];
}

export interface TestContainer extends RunningProcess {
  readonly name: string;
  /** Runs the image's HEALTHCHECK once: 0 healthy, 1 not. */
  healthcheck(): Promise<Finished>;
  exec(...args: string[]): Promise<Finished>;
  /** Resolves once `text` is in its output. */
  says(text: string): Promise<void>;
  /** SIGKILL to all of its processes; resolves when it is gone. */
  kill(): Promise<void>;
}

/** Podman with a store of this test run; its base images come from the lab's store. */
export interface TestPodman extends AsyncDisposable {
  /** Short-lived files of a test may lie here. */
  readonly directory: string;
  /** What the command needs in its environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly command: string;
  podman(...args: string[]): Promise<Finished>;
  /** Throws with the output of the build when it fails. */
  build(options: BuildOptions): Promise<void>;
  /** From now on it also reads images from this store. */
  readFrom(store: string): void;
  /** What it reads images from, besides the base images. */
  stores(): readonly string[];
  /** `make` makes the image of this tag, unless this test run has it already. */
  once(tag: string, make: () => Promise<void>): Promise<void>;
  /** Runs a container to its end. */
  run(options: RunOptions): Promise<Finished>;
  /** Runs a container in the foreground until `ready`; its signals are the container's. */
  start(options: RunOptions & { readonly ready: RunningReady }): Promise<TestContainer>;
  /** Bytes of all layers. */
  size(image: string): Promise<number>;
  /** Ends its containers; images stay for the rest of the test run. */
  close(): Promise<void>;
}

type RunningReady = (output: string) => boolean | Promise<boolean>;

/** No container outlives a killed test run for longer. */
const LIFETIME_SECONDS = 300;

export async function startPodman(): Promise<TestPodman> {
  const { KACME_PODMAN: images } = process.env;
  if (images === undefined) throw new Error('no store for images: test/setup/vitest-images.mjs makes it');
  const scratch = await scratchDirectory();
  const stores = new Set<string>();
  const configure = () => podmanIn(scratch.path, { images, stores: [...stores] });
  const { command, env } = configure();
  const containers = new Set<string>();
  const started: TestContainer[] = [];
  const podman = (...args: string[]) => finish(command, args, env);

  const newName = () => {
    const name = `kacme-${randomUUID().slice(0, 8)}`;
    containers.add(name);
    return name;
  };
  const runFlags = (name: string, { image, flags = [], args = [] }: RunOptions) => [
    ...['run', '--rm', '--name', name, '--timeout', String(LIFETIME_SECONDS)],
    ...flags,
    image,
    ...args,
  ];
  const start = async ({ ready, ...options }: RunOptions & { ready: RunningReady }) => {
    const name = newName();
    const running = await startProcess({
      name: `${options.image} in Podman`,
      command,
      args: runFlags(name, options),
      env,
      ready,
    });
    const container: TestContainer = {
      ...running,
      name,
      healthcheck: () => podman('healthcheck', 'run', name),
      exec: (...args) => podman('exec', name, ...args),
      says: async (text) => {
        await eventually(`the container says "${text}"`, () => running.output().includes(text));
      },
      kill: async () => {
        await podman('kill', '--signal', 'KILL', name);
        await running.exited;
      },
    };
    started.push(container);
    return container;
  };
  const build = async ({ file, context, tag, args = {}, flags = [] }: BuildOptions) => {
    const { status, stdout, stderr } = await podman(
      ...['build', ...buildFlags(args), ...flags, '--tag', tag, '--file', file, context],
    );
    if (status !== 0) throw new Error(`building ${tag} ended with ${status}:\n${stdout}\n${stderr}`);
  };
  const once = (tag: string, make: () => Promise<void>) =>
    withMachineLock(
      `${images}/${tag}`,
      async () => {
        const { status } = await podman('image', 'exists', tag);
        if (status !== 0) await make();
      },
      { onWait: () => {} },
    );
  const close = async () => {
    await Promise.all(started.map((container) => container.stop()));
    if (containers.size > 0) await podman('rm', '--force', '--ignore', '--time', '0', ...containers);
    await scratch.remove();
  };
  return {
    directory: scratch.path,
    command,
    env,
    podman,
    build,
    readFrom: (store) => {
      stores.add(store);
      configure();
    },
    stores: () => [images, ...stores],
    once,
    run: (options) => podman(...runFlags(newName(), options)),
    start,
    size: async (image) => {
      const { stdout } = await podman('image', 'inspect', '--format', '{{.Size}}', image);
      return Number(stdout);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function finish(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Finished> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { env, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve({ status: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ status: error.code, stdout, stderr });
      else reject(error);
    });
  });
}

/** Flags of a build that reaches the npm registry as this machine does: through the same registry, trusting the same CA. */
export async function npmSecrets(directory: string): Promise<readonly string[]> {
  const setting = async (name: string) => {
    const { stdout } = await finish('npm', ['config', 'get', name], process.env);
    return stdout.trim();
  };
  const npmrc = join(directory, 'npmrc');
  await writeFile(npmrc, `registry=${await setting('registry')}\n`);
  const ca = process.env['NODE_EXTRA_CA_CERTS'] ?? (await setting('cafile'));
  const secrets = { npmrc, ca };
  return Object.entries(secrets)
    .filter(([, path]) => existsSync(path))
    .flatMap(([id, path]) => ['--secret', `id=${id},src=${path}`]);
}
