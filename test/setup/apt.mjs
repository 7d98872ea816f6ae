import { execFile } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const NO_APT = 'there is no apt-get on this machine';

/** Where unpacked packages lie. For root not below the home directory, which the lab's unprivileged account could not enter. */
export function cacheDirectory() {
  if (process.getuid?.() === 0) return '/var/cache/kacme';
  const { XDG_CACHE_HOME } = process.env;
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'kacme');
}

/** What every run of apt-get needs that leaves the system as it is; without root it can take no locks. */
export function unprivileged() {
  const options = ['APT::Sandbox::User=root', 'Dpkg::Use-Pty=0'];
  if (process.getuid?.() !== 0) options.push('Debug::NoLocking=1');
  return options;
}

/** @param {readonly string[]} options */
export const asFlags = (options) => options.flatMap((option) => ['-o', option]);

/**
 * @param {readonly string[]} args
 * @param {{ cwd?: string }} [options]
 * @returns {Promise<{ fault: string | undefined, stdout: string }>} what went wrong, in apt's words
 */
export async function aptGet(args, { cwd } = {}) {
  try {
    const { stdout } = await run(
      'apt-get',
      ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3', ...args],
      {
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
        maxBuffer: 64 << 20,
        ...(cwd === undefined ? {} : { cwd }),
      },
    );
    return { fault: undefined, stdout };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if ('code' in error && error.code === 'ENOENT') return { fault: NO_APT, stdout: '' };
    const stderr = 'stderr' in error ? String(error.stderr) : '';
    const complaint = stderr.split('\n').filter((line) => line.startsWith('E:'));
    return { fault: complaint.length > 0 ? complaint.slice(0, 3).join(' ') : error.message, stdout: '' };
  }
}

/**
 * The mirror that this machine takes its own packages from.
 *
 * @returns {Promise<string>}
 * @throws {Error} when apt knows none
 */
export async function debianMirror() {
  const { fault, stdout } = await aptGet(['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']);
  if (fault !== undefined) throw new Error(fault);
  const mirror = stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri));
  if (mirror === undefined) throw new Error('no mirror of Debian is among the sources of apt');
  return mirror;
}
