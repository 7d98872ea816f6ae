import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { aptGet, asFlags, cacheDirectory, NO_APT, unprivileged } from './apt.mjs';
import { withMachineLock } from './lock.mjs';
import { ensureNewerAnsible, newerAnsibleRoot } from './newer-debian.mjs';
import { SetupError } from './setup-error.mjs';

const run = promisify(execFile);

/**
 * Debian 12's own: an Ansible with the template engine that went on up to 2.18, and for both what they need. The Ansible
 * that most clouds run, and its linter, are the newer Debian's.
 */
const PACKAGES = [
  ...['ansible-core', 'ansible-lint', 'yamllint', 'python3', 'python3-minimal'],
  // Kolla Ansible's filters import it, and it is for one release of Python alone.
  'python3-bcrypt',
];

/** Debian's own Python: the packages are built for it, and for no other that may come first in PATH. */
const SYSTEM_PYTHON = '/usr/bin/python3';

const root = () =>
  join(
    cacheDirectory(),
    `ansible-${process.arch}-${createHash('sha256').update(PACKAGES.join()).digest('hex').slice(0, 8)}`,
  );

/** @typedef {'2.19' | '2.14'} AnsibleCore the releases of ansible-core that are here: with the new template engine, and with the old one */

/**
 * How the unpacked programs are started: `python` with `env`, and the path of the program, in one of the directories
 * `bin`, as its first argument.
 *
 * @param {AnsibleCore} [core]
 */
export function ansiblePaths(core = '2.19') {
  const roots = core === '2.19' ? [newerAnsibleRoot(), root()] : [root()];
  return {
    python: SYSTEM_PYTHON,
    bin: roots.map((unpacked) => join(unpacked, 'usr/bin')),
    // They come without bytecode, which the packages would make when they are installed: the first run leaves it beside them.
    env: { PYTHONPATH: roots.map(modulesIn).join(':'), PYTHONDONTWRITEBYTECODE: '' },
  };
}

/** Mitogen runs the same modules over a Python that stays, in place of one for each task. It is for 2.19. */
export const mitogenStrategies = () =>
  join(modulesIn(newerAnsibleRoot()), 'ansible_mitogen/plugins/strategy');

/** @param {string} unpacked */
const modulesIn = (unpacked) => join(unpacked, 'usr/lib/python3/dist-packages');

/**
 * Brings ansible-core (two of them), ansible-lint and yamllint onto this machine without installing a package. Idempotent;
 * runs beside each other share one download.
 *
 * @param {{ say: (line: string) => void }} options
 * @returns {Promise<void>}
 * @throws {SetupError} with a remedy
 */
export async function ensureAnsible({ say }) {
  await ensureNewerAnsible({ say });
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
  if (!existsSync(join(root(), 'usr/bin/ansible-playbook'))) return 'not unpacked';
  try {
    for (const core of /** @type {const} */ (['2.14', '2.19'])) {
      const { python, env } = ansiblePaths(core);
      await run(python, ['-c', 'import ansible.release, ansiblelint, yamllint, jinja2, yaml'], {
        env: { ...process.env, ...env },
      });
    }
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
