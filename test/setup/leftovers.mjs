import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

/**
 * What belongs to a directory of the tests: processes, mounts, files. A process belongs to it that has a path below it
 * among its arguments (proc_pid_cmdline(5)), or that was started with it as TMPDIR (proc_pid_environ(5)).
 */

const run = promisify(execFile);

/** What a conmon does after its container takes a second on a busy machine. */
const PATIENCE_MS = 60_000;

/**
 * Resolves when no process has a path below `directory` among its arguments any more.
 *
 * @param {string} directory
 */
export const afterItsProcesses = (directory) => afterAll(directory, () => usersOf(directory));

/**
 * Ends what still belongs to `directory`, containers included.
 *
 * @param {string} directory
 * @returns {Promise<readonly string[]>} the command lines of what it ended
 */
export async function endItsProcesses(directory) {
  const left = () => [...new Set([...usersOf(directory), ...heirsOf(directory)])];
  const found = left();
  const ended = [];
  for (const pid of found) {
    const command = argumentsOf(pid).join(' ').trim();
    // A conmon ends by itself after its container, and gives back what that had.
    const targets = /\/conmon$/.test(argumentsOf(pid)[0] ?? '') ? childrenOf(pid) : [pid];
    for (const target of targets) kill(target);
    ended.push(command);
  }
  await afterAll(directory, left);
  return ended;
}

/**
 * @param {string} directory
 */
export async function removeMounted(directory) {
  const mounted = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${directory}/`));
  for (const mount of mounted.reverse()) await run('umount', ['--lazy', mount]);
  rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/**
 * @param {string} directory
 * @param {() => readonly string[]} look
 */
async function afterAll(directory, look) {
  for (const until = performance.now() + PATIENCE_MS; look().length > 0; await sleep(50)) {
    if (performance.now() < until) continue;
    throw new Error(`these processes of ${directory} do not end: ${look().join(' ')}`);
  }
}

const pids = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name));

const usersOf = (/** @type {string} */ directory) =>
  pids().filter((pid) => argumentsOf(pid).some((argument) => argument.startsWith(`${directory}/`)));

const heirsOf = (/** @type {string} */ directory) =>
  pids().filter((pid) => {
    const variables = ofProcess(pid, 'environ').split('\0');
    return variables.some((one) => one === `TMPDIR=${directory}` || one.startsWith(`TMPDIR=${directory}/`));
  });

const childrenOf = (/** @type {string} */ parent) =>
  pids().filter((pid) => /^PPid:\t(\d+)$/m.exec(ofProcess(pid, 'status'))?.[1] === parent);

const argumentsOf = (/** @type {string} */ pid) => ofProcess(pid, 'cmdline').split('\0');

/**
 * Empty when it has ended meanwhile, or is another account's.
 *
 * @param {string} pid
 * @param {'cmdline' | 'environ' | 'status'} file
 */
function ofProcess(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return '';
    throw error;
  }
}

/** @param {string} pid */
function kill(pid) {
  try {
    process.kill(Number(pid), 'SIGKILL');
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error;
  }
}

/**
 * @param {unknown} error
 * @param {readonly string[]} codes
 */
const hasCode = (error, ...codes) =>
  error instanceof Error && 'code' in error && codes.includes(String(error.code));
