import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureLab } from './lab.mjs';
import { withMachineLock } from './lock.mjs';
import { SetupError } from './setup-error.mjs';

/** The root of the checkout. */
export const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** @typedef {{ say: (line: string) => void }} SayOptions */

/**
 * Everything demo, tests and benchmark need: Node, the npm packages, the real servers. Prints what it does and
 * what that leaves behind; silent when nothing is missing.
 *
 * @param {Partial<SayOptions>} [options]
 * @returns {Promise<void>}
 * @throws {SetupError} with a remedy
 */
export async function ensureAll({ say = (line) => void process.stdout.write(`set-up: ${line}\n`) } = {}) {
  ensureNode();
  await ensureModules({ say });
  await ensureLab({ say });
}

/** @throws {SetupError} when this Node is older than package.json allows */
function ensureNode() {
  const { engines } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
  const wanted = engines.node.replace(/^>=/, '');
  const [have, need] = [process.versions.node, wanted].map((version) => version.split('.').map(Number));
  const difference = [0, 1, 2].map((i) => have[i] - need[i]).find((step) => step !== 0) ?? 0;
  if (difference >= 0) return;
  throw new SetupError(
    `kacme needs Node ${wanted} or newer; this is ${process.versions.node}`,
    'install a newer Node.js, for example from nodejs.org',
  );
}

/**
 * Makes node_modules what package-lock.json says; does nothing when it already is.
 *
 * @param {SayOptions} options
 */
async function ensureModules({ say }) {
  if (modulesMatchLock()) return;
  await withMachineLock(
    `npm ${repository}`,
    async () => {
      if (modulesMatchLock()) return;
      say(`npm ci (leaves ${join(repository, 'node_modules')} and npm's own download cache)`);
      await npmCi();
    },
    { onWait: () => say('waiting for another run that installs the npm packages') },
  );
}

function modulesMatchLock() {
  const installed = join(repository, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  const have = JSON.parse(readFileSync(installed, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(
    // npm leaves out optional packages of other platforms.
    ([path, { version, optional }]) =>
      path === '' || (have[path]?.version ?? (optional && version)) === version,
  );
}

/** @returns {Promise<void>} */
function npmCi() {
  return new Promise((resolve, reject) => {
    const fail = (/** @type {string} */ why) =>
      reject(
        new SetupError(
          `npm ci failed: ${why}`,
          'see its output above; npm must be installed and its registry reachable',
        ),
      );
    const child = spawn('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: repository,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.once('error', (error) => fail(error.message));
    child.once('close', (code) => (code === 0 ? resolve() : fail(`exit status ${code}`)));
  });
}

/**
 * Runs a launcher's `main`; a SetupError is printed with its remedy instead of a stack.
 *
 * @param {() => Promise<number>} main resolves to the exit status
 */
export async function launch(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`\n${error.message}\n  what to do: ${error.remedy}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await launch(async () => {
    await ensureAll();
    return 0;
  });
}
