import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { aptGet, asFlags, cacheDirectory, NO_APT, unprivileged } from './apt.mjs';
import { withMachineLock } from './lock.mjs';
import { SetupError } from './setup-error.mjs';

const run = promisify(execFile);

/** Debian's packages with which the Ansible role is linted and run. */
const PACKAGES = ['ansible-core', 'ansible-lint', 'yamllint', 'python3', 'python3-minimal'];

/** Debian's own Python: the packages are built for it, and for no other that may come first in PATH. */
const SYSTEM_PYTHON = '/usr/bin/python3';

const root = () =>
  join(
    cacheDirectory(),
    `ansible-${process.arch}-${createHash('sha256').update(PACKAGES.join()).digest('hex').slice(0, 8)}`,
  );

/** How the unpacked programs are started: `python` with `env`, and the path of the program as its first argument. */
export function ansiblePaths() {
  const unpacked = root();
  const modules = join(unpacked, 'usr/lib/python3/dist-packages');
  return {
    python: SYSTEM_PYTHON,
    bin: join(unpacked, 'usr/bin'),
    env: { PYTHONPATH: modules },
  };
}

/**
 * Brings ansible-core, ansible-lint and yamllint onto this machine without installing a package. Idempotent; runs
 * beside each other share one download.
 *
 * @param {{ say: (line: string) => void }} options
 * @returns {Promise<void>}
 * @throws {SetupError} with a remedy
 */
export async function ensureAnsible({ say }) {
  if ((await whatIsBroken()) === undefined) return;
  await withMachineLock(
    root(),
    async () => {
      if ((await whatIsBroken()) !== undefined) await unpack(say);
    },
    { onWait: () => say('waiting for another run that fetches the same packages') },
  );
}

/** @returns {Promise<string | undefined>} */
async function whatIsBroken() {
  const { python, bin, env } = ansiblePaths();
  if (!existsSync(join(bin, 'ansible-playbook'))) return 'not unpacked';
  try {
    await run(python, ['-c', 'import ansible, ansiblelint, yamllint, jinja2, yaml'], {
      env: { ...process.env, ...env },
    });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** @param {(line: string) => void} say */
async function unpack(say) {
  const draft = `${root()}.${randomUUID().slice(0, 8)}`;
  const archives = `${draft}.debs`;
  try {
    mkdirSync(join(archives, 'partial'), { recursive: true });
    mkdirSync(draft);
    say(`fetching Debian packages (not installed, only unpacked): ${PACKAGES.join(' ')}`);
    await download(archives, say);
    for (const name of readdirSync(archives).filter((file) => file.endsWith('.deb'))) {
      // Beside the system's own dynamic loader and Python these would not start.
      if (/^(?:libc6|libc-bin|python3|python3-minimal|libpython3\S*|python3\.\d+\S*)_/.test(name)) continue;
      await run('dpkg-deb', ['-x', join(archives, name), draft]);
    }
    chmodSync(draft, 0o755);
    rmSync(root(), { recursive: true, force: true });
    renameSync(draft, root());
    const fault = await whatIsBroken();
    if (fault !== undefined) throw unusable(fault);
    say(`unpacked to ${root()} (may be deleted at any time; it is made again when needed)`);
  } catch (error) {
    if (error instanceof SetupError) throw error;
    throw unusable(error instanceof Error ? error.message : String(error));
  } finally {
    rmSync(draft, { recursive: true, force: true });
    rmSync(archives, { recursive: true, force: true });
  }
}

/**
 * @param {string} archives
 * @param {(line: string) => void} say
 */
async function download(archives, say) {
  const options = asFlags([`Dir::Cache::archives=${archives}`, ...unprivileged()]);
  const flags = ['-qq', '-y', '--no-install-recommends', '--download-only', '--reinstall'];
  const install = ['install', ...flags, ...options, ...PACKAGES];
  let { fault } = await aptGet(install);
  if (fault === undefined) return;
  if (fault !== NO_APT) {
    say('apt-get update (the package lists are missing or too old)');
    const update = await aptGet(['-qq', 'update']);
    fault = update.fault ?? (await aptGet(install)).fault;
    if (fault === undefined) return;
  }
  throw unusable(fault);
}

/** @param {string} why */
const unusable = (why) =>
  new SetupError(
    `cannot bring Ansible and its linters: ${why}`,
    "kacme's tests need Debian 12 or newer with python3 installed (apt-get install python3), and its package mirror reachable",
  );
