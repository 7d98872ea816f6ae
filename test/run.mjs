import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureAll, launch, repository } from './setup/ensure.mjs';
import { endItsProcesses, removeMounted } from './setup/leftovers.mjs';

/**
 * `npm test`: set-up, then everything CI runs, up to the first stage that fails. Arguments go to vitest. The
 * last line is `N passed, N failed`, of single tests; a failed stage before them counts as one failure.
 */

const bin = (/** @type {string} */ name) => join(repository, 'node_modules', '.bin', name);

/** Temporary files of this run alone, so that what it leaves behind can be seen and removed. */
const scratch = mkdtempSync(join(tmpdir(), 'kacme-test-'));
// The lab's unprivileged account passes through it.
chmodSync(scratch, 0o711);
const report = join(scratch, 'vitest.json');
const env = { ...process.env, TMPDIR: scratch, ...(process.stdout.isTTY ? {} : { NO_COLOR: '1' }) };

/** @type {readonly { name: string, command: string, args: readonly string[] }[]} */
const STAGES = [
  {
    name: 'format, lint, import directions (biome)',
    command: bin('biome'),
    args: ['ci', ...(process.stdout.isTTY ? [] : ['--colors=off'])],
  },
  { name: 'types (tsc)', command: bin('tsc'), args: [] },
  { name: 'unused code (knip)', command: bin('knip'), args: [] },
  { name: 'bundle (esbuild)', command: process.execPath, args: ['build.mjs'] },
];

const TESTS = {
  name: 'tests (vitest)',
  command: bin('vitest'),
  args: [
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
};

/** @type {import('node:child_process').ChildProcess | undefined} */
let running;
/** @type {NodeJS.Signals | undefined} */
let interrupted;
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(name, () => {
    interrupted = name;
    running?.kill(name);
  });
}

/**
 * @param {{ name: string, command: string, args: readonly string[] }} stage
 * @returns {Promise<boolean>} whether it passed
 */
async function passes({ name, command, args }) {
  process.stdout.write(`\n== ${name}\n`);
  const child = spawn(command, args, {
    cwd: repository,
    stdio: ['ignore', 'inherit', 'inherit'],
    env,
  });
  running = child;
  const failure = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) =>
      resolve(code === 0 ? undefined : (signal ?? `exit status ${code}`)),
    );
  });
  running = undefined;
  if (failure !== undefined) process.stdout.write(`\n== failed: ${name} (${failure})\n`);
  return failure === undefined;
}

/** @returns {{ passed: number, failed: number, skipped: number }} */
function readCounts() {
  /** @type {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number,
   *   testResults: { status: string, assertionResults: { status: string }[] }[] }} */
  const json = JSON.parse(readFileSync(report, 'utf8'));
  // A file that cannot be loaded, or fails outside its tests, has no failed test to count.
  const filesWithout = json.testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  );
  return {
    passed: json.numPassedTests,
    failed: json.numFailedTests + filesWithout.length,
    skipped: json.numPendingTests + json.numTodoTests,
  };
}

/** @returns {Promise<readonly string[]>} what the tests left, which is ended */
async function endLeftovers() {
  const names = readdirSync(scratch).filter((name) => name.startsWith('kacme-'));
  const processes = await endItsProcesses(scratch);
  return [...names.map((name) => `directory ${name}`), ...processes.map((command) => `process ${command}`)];
}

/** @typedef {{ passed: number, failed: number, skipped?: number }} Counts */

/** @returns {Promise<Counts | undefined>} undefined when interrupted */
async function runAll() {
  process.stdout.write('== set-up\n');
  await ensureAll();
  for (const stage of STAGES) {
    const passed = await passes(stage);
    if (interrupted !== undefined) return undefined;
    if (!passed) return { passed: 0, failed: 1 };
  }
  const passed = await passes(TESTS);
  const leftovers = await endLeftovers();
  if (interrupted !== undefined) return undefined;
  const counts = readCounts();
  if (leftovers.length > 0) process.stdout.write(`\n== the tests left behind:\n${leftovers.join('\n')}\n`);
  if (counts.passed + counts.failed === 0) process.stdout.write('\n== no test ran\n');
  const unaccounted = !passed || leftovers.length > 0 || counts.passed === 0;
  return { ...counts, failed: Math.max(counts.failed, unaccounted ? 1 : 0) };
}

await launch(async () => {
  /** @type {Counts | undefined} */
  let counts;
  try {
    counts = await runAll();
  } finally {
    await removeMounted(scratch);
  }
  if (counts === undefined) return 130;
  const { passed, failed, skipped = 0 } = counts;
  process.stdout.write(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
  return failed === 0 ? 0 : 1;
});
