import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureAll, launch } from '../setup/ensure.mjs';

/**
 * `npm run demo`: set-up, then the demo as a process in a session of its own, so that Ctrl-C reaches this one
 * alone and the demo stops its servers in order. Whatever ends the demo, its directory is removed here.
 */

const HELP = `npm run demo [-- --once]

Runs kacme's main job before your eyes: a CA, three HAProxy hosts, first certificates, renewals under load, a host
that is down, a kill. All of it on this machine, in one temporary directory, on loopback addresses.

  --once   end after the last step instead of staying up until Ctrl-C
  --help   this text

Exit status: 0 every step was verified, 1 one was not, 2 wrong usage, 130 interrupted
`;

const ARGUMENTS = process.argv.slice(2);

/** @type {import('node:child_process').ChildProcess | undefined} */
let demo;
/** @type {NodeJS.Signals | undefined} */
let interruptedBy;
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(name, () => {
    // npm passes on what the terminal has sent already: once is enough.
    if (interruptedBy === undefined) demo?.kill(name);
    interruptedBy = name;
  });
}

/** @returns {Promise<number>} the exit status */
async function main() {
  if (ARGUMENTS.includes('--help')) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = ARGUMENTS.find((argument) => argument !== '--once');
  if (unknown !== undefined) {
    process.stderr.write(`demo: there is no option ${unknown}\n\n${HELP}`);
    return 2;
  }
  try {
    return await setUpAndRun();
  } catch (error) {
    // The terminal interrupts npm, apt-get and esbuild too: what they complain about is not a failure.
    if (interruptedBy === undefined) throw error;
    process.stdout.write('\ninterrupted\n');
    return 130;
  }
}

/** @returns {Promise<number>} */
async function setUpAndRun() {
  await ensureAll();
  if (interruptedBy !== undefined) return 130;
  const directory = await mkdtemp(join(temporaryDirectory(), 'kacme-demo-'));
  try {
    await chmod(directory, 0o711);
    return await runIn(directory);
  } finally {
    await cleanUp(directory);
  }
}

/** Root's servers run under an account of their own, which must be able to pass; pam_tmpdir(8) forbids that. */
function temporaryDirectory() {
  if (process.getuid?.() !== 0) return tmpdir();
  for (let path = tmpdir(); path !== dirname(path); path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0) return '/tmp';
  }
  return tmpdir();
}

/**
 * @param {string} directory
 * @returns {Promise<number>}
 */
async function runIn(directory) {
  // Only now is esbuild certain to be installed.
  const { bundle } = await import('../../build.mjs');
  const { build } = await import('esbuild');
  const { command } = await bundle();
  const script = join(directory, 'demo.mjs');
  await build({
    entryPoints: [join(dirname(fileURLToPath(import.meta.url)), 'main.ts')],
    outfile: script,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
  if (interruptedBy !== undefined) return 130;
  const child = spawn(
    'setpriv',
    // If this process is killed, the demo still cleans up after itself.
    ['--pdeathsig', 'TERM', process.execPath, '--enable-source-maps', script, command, ...ARGUMENTS],
    { stdio: 'inherit', detached: true, env: { ...process.env, TMPDIR: directory } },
  );
  demo = child;
  const [status, signal] = await once(child, 'exit');
  if (status === null) process.stderr.write(`\ndemo: ended by ${signal}\n`);
  return status ?? 1;
}

/**
 * A failed demo has put its logs aside, and said so.
 *
 * @param {string} directory
 */
async function cleanUp(directory) {
  const kept = join(directory, 'failed');
  if (!existsSync(kept)) {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
    return;
  }
  const others = (await readdir(directory))
    .map((name) => join(directory, name))
    .filter((path) => path !== kept);
  await Promise.all(others.map((path) => rm(path, { recursive: true, force: true, maxRetries: 3 })));
}

await launch(main);
