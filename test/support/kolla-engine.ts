import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { podmanIn, removePodman } from '../setup/containers.mjs';
import type { Finished } from './kacme.ts';
import type { TestMachine } from './machines.ts';

/** No container outlives a killed test run for longer; a cloud takes its minutes. */
const LIFETIME_SECONDS = 1_200;

/** The containers of one host: an engine with names and volumes of its own, whose containers are on the host's network. */
export interface HostEngine {
  /** What docker(1) or podman(1) would do there. */
  run(...args: string[]): Promise<Finished>;
  /** Where the files of a named volume lie on this machine. */
  volume(name: string): string;
  /** Ends and removes all of it. */
  close(): Promise<void>;
}

export interface EngineOptions {
  /** A short path (a UNIX socket's is limited to 107 bytes): the directory of everything that it keeps. */
  readonly directory: string;
  /** What it reads images from. */
  readonly stores: readonly string[];
  readonly machine: TestMachine;
  /** Where its command line is to lie, as a program. */
  readonly program: string;
}

export async function startEngine({
  directory,
  stores,
  machine,
  program,
}: EngineOptions): Promise<HostEngine> {
  await mkdir(directory);
  const options = { stores, network: machine.network };
  const { command, env } = podmanIn(directory, options);
  const variables = Object.entries(env).map(([name, value]) => `export ${name}='${value}'`);
  await writeFile(
    program,
    `#!/bin/sh
${variables.join('\n')}
if [ "$1" = run ]; then
  shift
  set -- run --timeout ${LIFETIME_SECONDS} "$@"
fi
exec ${command} "$@"
`,
    { mode: 0o755 },
  );
  return {
    run: (...args) =>
      new Promise((resolve) => {
        execFile(program, args, { maxBuffer: 16 << 20 }, (error, stdout, stderr) =>
          resolve({ status: error === null ? 0 : Number(error.code ?? 1), stdout, stderr }),
        );
      }),
    volume: (name) => join(directory, 'graph/volumes', name, '_data'),
    close: () => removePodman(directory, options),
  };
}
