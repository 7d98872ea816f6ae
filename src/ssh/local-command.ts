import { type ChildProcess, spawn } from 'node:child_process';
import { HostError } from '../domain/host-error.ts';
import type { CommandOptions, CommandResult } from '../ports/host-session.ts';
import { bounded } from './bounded.ts';
import { commandLine } from './command-line.ts';
import { CommandOutput } from './command-output.ts';

/** Secrets may stand in kacme's environment: a command gets only what finds programs and container engines. */
const PASSED_ON = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'XDG_RUNTIME_DIR', 'DOCKER_HOST', 'CONTAINER_HOST'];

/** Runs a program on this machine, without a shell; `host` is what a message begins with. Throws `ERR_HOST_COMMAND`. */
export async function runLocalCommand(
  host: string,
  argv: readonly string[],
  { signal, mandate, timeoutMs }: CommandOptions,
): Promise<CommandResult> {
  const [program = '', ...args] = argv;
  const step = `run ${commandLine(argv)}`;
  signal.throwIfAborted();
  mandate.assertHeld();
  const output = new CommandOutput();
  let child: ChildProcess | undefined;
  try {
    const status = await bounded<number | undefined>(
      (done) => {
        // A group of its own, so that what it starts can be ended with it.
        child = spawn(program, args, {
          env: environment(),
          stdio: ['ignore', 'pipe', 'pipe'],
          detached: true,
        });
        child.stdout?.on('data', output.add);
        child.stderr?.on('data', output.add);
        child.once('error', done);
        child.once('close', (code) => done(undefined, code ?? undefined));
      },
      {
        until: [signal],
        timeoutMs,
        onTimeout: () =>
          new HostError('ERR_HOST_COMMAND', {
            host,
            step,
            reason: `it did not end within ${timeoutMs} ms and was killed`,
            retry: 'later',
            remedy: 'see what it waits for',
          }),
      },
    );
    return { status, output: output.toString() };
  } catch (error) {
    endGroup(child);
    if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
    throw new HostError('ERR_HOST_COMMAND', {
      host,
      step,
      reason: `it cannot be started (${error.message})`,
      retry: 'later',
      remedy: `see that ${program} is there and that kacme (uid ${process.getuid?.() ?? 'unknown'}) may run it`,
      cause: error,
    });
  }
}

function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    PASSED_ON.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

function endGroup(child: ChildProcess | undefined): void {
  if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
