import { execFile, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { aptGet, asFlags, cacheDirectory, NO_APT, unprivileged } from './apt.mjs';
import { withMachineLock } from './lock.mjs';
import { SetupError } from './setup-error.mjs';

const run = promisify(execFile);

/** Debian's packages with the real servers that demo and tests run. */
const LAB_PACKAGES = [
  'haproxy',
  'openssh-server',
  'openssh-client',
  'openssh-sftp-server',
  'pebble',
  'libnss-wrapper',
  'wrk',
];

/** Programs of the lab by the path at which the packages hold them. */
const PROGRAMS = {
  haproxy: 'usr/sbin/haproxy',
  sshd: 'usr/sbin/sshd',
  ssh: 'usr/bin/ssh',
  sshKeygen: 'usr/bin/ssh-keygen',
  sftp: 'usr/bin/sftp',
  sftpServer: 'usr/lib/openssh/sftp-server',
  pebble: 'usr/bin/pebble',
  challtestsrv: 'usr/bin/pebble-challtestsrv',
  wrk: 'usr/bin/wrk',
};

/** @typedef {Record<keyof typeof PROGRAMS | 'nssWrapper' | 'libraryPath', string>} LabPaths */

/**
 * Where the unpacked packages lie: one directory per distribution, architecture and list of packages. For
 * root it is not below the home directory, which the lab's unprivileged account could not enter.
 *
 * @returns {string}
 */
export function labDirectory() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const field = (/** @type {string} */ name) => new RegExp(`^${name}="?([^"\\n]*)`, 'm').exec(release)?.[1];
  const distribution = `${field('ID') ?? 'unknown'}${field('VERSION_ID') ?? ''}-${process.arch}`;
  const list = createHash('sha256').update(LAB_PACKAGES.join()).digest('hex').slice(0, 8);
  return join(cacheDirectory(), `lab-${distribution}-${list}`);
}

/**
 * Absolute paths into the unpacked lab; undefined when it is not there (`ensureLab` makes it).
 *
 * @returns {LabPaths | undefined}
 */
export function labPaths(root = labDirectory()) {
  const libraries = ['usr/lib', 'lib']
    .map((path) => join(root, path))
    .filter((path) => existsSync(path))
    .flatMap((path) => readdirSync(path).map((name) => join(path, name)))
    .filter((path) => path.endsWith('-linux-gnu') || path.endsWith('-linux-gnueabihf'));
  const nssWrapper = libraries
    .map((path) => join(path, 'libnss_wrapper.so'))
    .find((path) => existsSync(path));
  if (nssWrapper === undefined) return undefined;
  const absolute = Object.entries(PROGRAMS).map(([name, path]) => [name, join(root, path)]);
  return { ...Object.fromEntries(absolute), nssWrapper, libraryPath: libraries.join(':') };
}

/**
 * Brings the lab's programs onto this machine without installing a package: nothing is configured, no service
 * starts, no user is made. Idempotent; runs beside each other share one download.
 *
 * @param {{ say: (line: string) => void }} options `say` gets each step that takes time or leaves something
 * @returns {Promise<string>} the directory with the unpacked programs
 */
export async function ensureLab({ say }) {
  const root = labDirectory();
  if ((await whatIsBroken(root)) === undefined) return root;
  return await withMachineLock(
    root,
    async () => {
      const fault = await whatIsBroken(root);
      if (fault === undefined) return root;
      if (existsSync(root))
        say(`the unpacked programs in ${root} do not run here any more (${fault}): again`);
      await unpackLab(root, say);
      return root;
    },
    { onWait: () => say('waiting for another run that fetches the same packages') },
  );
}

/**
 * @param {string} root
 * @param {(line: string) => void} say
 */
async function unpackLab(root, say) {
  const draft = `${root}.${randomUUID().slice(0, 8)}`;
  const archives = `${draft}.debs`;
  try {
    mkdirSync(join(archives, 'partial'), { recursive: true });
    mkdirSync(draft);
    say(`fetching Debian packages (not installed, only unpacked): ${LAB_PACKAGES.join(' ')}`);
    await download(archives, say);
    for (const name of readdirSync(archives).filter((name) => name.endsWith('.deb'))) {
      // A libc beside the system's own dynamic loader would not start.
      if (/^(?:libc6|libc-bin)_/.test(name)) continue;
      await run('dpkg-deb', ['-x', join(archives, name), draft]);
    }
    chmodSync(draft, 0o755);
    const fault = await whatIsBroken(draft);
    if (fault !== undefined) {
      throw new SetupError(
        `the programs unpacked from Debian's packages do not run: ${fault}`,
        'bring the system up to date (apt-get update && apt-get upgrade), then try again',
      );
    }
    rmSync(root, { recursive: true, force: true });
    renameSync(draft, root);
    say(`unpacked to ${root} (may be deleted at any time; it is made again when needed)`);
  } catch (error) {
    if (error instanceof SetupError) throw error;
    throw new SetupError(
      `cannot unpack the lab's programs to ${root}: ${error instanceof Error ? error.message : error}`,
      'look for free space and permission there; XDG_CACHE_HOME moves it when not run as root',
    );
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
  let { fault } = await aptGet(downloadArguments(archives));
  if (fault === undefined) return;
  if (fault !== NO_APT) {
    // No package list yet, as in a fresh container, or one that names versions long gone.
    say('apt-get update (the package lists are missing or too old)');
    const update = await aptGet(['-qq', 'update']);
    fault = update.fault ?? (await aptGet(downloadArguments(archives))).fault;
    if (fault === undefined) return;
  }
  throw new SetupError(
    `apt-get cannot download ${LAB_PACKAGES.join(' ')}: ${fault}`,
    'kacme\'s demo and tests need Debian 12 or newer, and its package mirror reachable (try "apt-get update" as root)',
  );
}

/** @param {string} archives */
function downloadArguments(archives) {
  const options = asFlags([`Dir::Cache::archives=${archives}`, ...unprivileged()]);
  // --reinstall: also what the system has installed itself must be downloaded.
  const flags = ['-qq', '-y', '--no-install-recommends', '--download-only', '--reinstall'];
  return ['install', ...flags, ...options, ...LAB_PACKAGES];
}

/**
 * Starts each program once: a library of the system may have gone since it was unpacked.
 *
 * @param {string} root
 * @returns {Promise<string | undefined>}
 */
async function whatIsBroken(root) {
  const paths = labPaths(root);
  if (paths === undefined) return 'not unpacked';
  const names = /** @type {(keyof typeof PROGRAMS)[]} */ (Object.keys(PROGRAMS));
  const faults = await Promise.all(
    names.map((name) => startFault(paths[name], name === 'haproxy' ? '-v' : '-h', paths.libraryPath)),
  );
  return faults.find((fault) => fault !== undefined);
}

/**
 * @param {string} program
 * @param {string} flag
 * @param {string} libraryPath
 * @returns {Promise<string | undefined>}
 */
function startFault(program, flag, libraryPath) {
  return new Promise((resolve) => {
    const child = spawn(program, [flag], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { LD_LIBRARY_PATH: libraryPath },
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.once('error', (error) => resolve(`${program}: ${error.message}`));
    // 127: the dynamic loader gave up. Other codes are the program's own answer to the flag.
    child.once('close', (code) => resolve(code === 127 ? stderr.trim().split('\n')[0] : undefined));
  });
}
