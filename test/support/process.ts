import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { eventually } from './eventually.ts';

export interface ProcessOptions {
  /** For messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string | undefined;
  readonly account?: { readonly uid: number; readonly gid: number } | undefined;
  readonly view?: View | undefined;
  /** Asked until it is true; gets stdout and stderr so far. */
  readonly ready: (output: string) => boolean | Promise<boolean>;
  /** 10 s unless given. */
  readonly readyWithinMs?: number | undefined;
}

/**
 * A mount namespace of its own in which `directory` lies at `at` (mount_namespaces(7)), so that servers of one
 * machine find their files at the same path, as those of several machines do. Needs root: see `canHaveViews`.
 */
export interface View {
  readonly directory: string;
  /** An existing directory; what it holds otherwise is hidden from the process. */
  readonly at: string;
}

export interface RunningProcess extends AsyncDisposable {
  readonly pid: number;
  /** The last 256 kB of stdout and stderr. */
  output(): string;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** To the process alone, not to its children. */
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, SIGKILL after 5 s; resolves when it is gone. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts a server and waits until it is ready; throws with its output when it ends before that. It dies with
 * this process (setpriv(1), PR_SET_PDEATHSIG), so that a killed test run leaves nothing running.
 */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const { command, args } = launched(options);
  const child = spawn(command, args, {
    env: { ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const running = supervise(child, options.name);
  let gone = false;
  void running.exited.then(() => {
    gone = true;
  });
  try {
    const { ready, readyWithinMs: timeoutMs } = options;
    const state = await eventually(
      `${options.name} is ready`,
      async () => (gone ? 'gone' : (await ready(running.output())) && 'ready'),
      timeoutMs === undefined ? {} : { timeoutMs },
    );
    if (state === 'gone') throw new Error(`${options.name} ended at once`);
    return running;
  } catch (error) {
    await running.stop();
    throw new Error(`${options.name} did not start: ${running.output() || 'it said nothing'}`, {
      cause: error,
    });
  }
}

/** The process id stays the same: each of these replaces itself by the next one. */
function launched({ command, args, account, view }: ProcessOptions): { command: string; args: string[] } {
  const identity =
    account === undefined || process.getuid?.() !== 0
      ? []
      : ['--reuid', String(account.uid), '--regid', String(account.gid), '--clear-groups'];
  const privileged = [...identity, '--pdeathsig', 'KILL', command, ...args];
  if (view === undefined) return { command: 'setpriv', args: privileged };
  return {
    command: 'unshare',
    args: ['--mount', 'sh', '-c', MOUNT_THEN_RUN, view.directory, view.at, 'setpriv', ...privileged],
  };
}

const MOUNT_THEN_RUN = 'mount --bind "$0" "$1" && shift && exec "$@"';

/** Whether this machine lets us have a `View`: a container without CAP_SYS_ADMIN does not. */
export function canHaveViews({ directory, at }: View): boolean {
  const { PATH = '/usr/bin:/bin' } = process.env;
  const args = ['--mount', 'sh', '-c', MOUNT_THEN_RUN, directory, at, 'true'];
  return spawnSync('unshare', args, { env: { PATH }, stdio: 'ignore' }).status === 0;
}

function supervise(child: ChildProcess, name: string): RunningProcess {
  let output = '';
  const collect = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-256 * 1024);
  };
  child.stdout?.on('data', collect);
  child.stderr?.on('data', collect);
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('error', (error) => {
      output += `${name}: ${error.message}`;
      resolve({ code: null, signal: null });
    });
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  const stop = async () => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    // A frozen process takes SIGTERM only once it runs again.
    child.kill('SIGCONT');
    const forced = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await exited;
    clearTimeout(forced);
  };
  return {
    pid: child.pid ?? -1,
    output: () => output,
    exited,
    signal: (signalName) => void child.kill(signalName),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Children, grandchildren and so on that live now, parents first (proc(5)). */
export function descendants(pid: number): readonly number[] {
  const parentOf = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = parentPid(Number(name));
    if (parent !== undefined) parentOf.set(Number(name), parent);
  }
  const found = [pid];
  for (const ancestor of found) {
    for (const [child, parent] of parentOf) if (parent === ancestor) found.push(child);
  }
  return found.slice(1);
}

function parentPid(pid: number): number | undefined {
  try {
    // The command in parentheses may itself hold blanks and parentheses.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined; // It ended meanwhile.
  }
}

/** Sends a signal to each; one that is gone already is no error. */
export function signalAll(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
  }
}

/** Whether a process with this id runs (a zombie does not). */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch {
    return false;
  }
}
