import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { aptGet, asFlags, cacheDirectory, unprivileged } from './apt.mjs';
import { withMachineLock } from './lock.mjs';
import { SetupError } from './setup-error.mjs';

const run = promisify(execFile);

/** Debian 13: its Pebble (2.6) knows ARI and needs no library that Debian 12 lacks. */
const SUITE = 'trixie';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Where the Pebble with ARI is, once `ensureNewerPebble` has brought it. */
export const newerPebblePath = () =>
  join(cacheDirectory(), `pebble-${SUITE}-${process.arch}`, 'usr/bin/pebble');

/**
 * Brings the Pebble of a newer Debian than this machine's. apt works with a sources list, package lists and caches
 * of its own, so the system never hears of the other suite. Idempotent; runs beside each other share one download.
 *
 * @param {{ say: (line: string) => void }} options
 * @returns {Promise<string>} its path
 * @throws {SetupError} with a remedy
 */
export async function ensureNewerPebble({ say }) {
  const path = newerPebblePath();
  if (existsSync(path)) return path;
  return await withMachineLock(
    path,
    async () => {
      if (!existsSync(path)) await fetchPebble(dirname(dirname(dirname(path))), say);
      return path;
    },
    { onWait: () => say('waiting for another run that fetches the same package') },
  );
}

/**
 * @param {string} root
 * @param {(line: string) => void} say
 */
async function fetchPebble(root, say) {
  const draft = `${root}.${randomUUID().slice(0, 8)}`;
  const at = (/** @type {string} */ name) => join(draft, name);
  try {
    const mirror = await debianMirror();
    for (const name of ['lists/partial', 'cache/archives/partial', 'debs', 'root'])
      mkdirSync(at(name), { recursive: true });
    writeFileSync(at('sources.list'), `deb [signed-by=${KEYRING}] ${mirror} ${SUITE} main\n`);
    const options = asFlags([
      ...unprivileged(),
      `Dir::Etc::sourcelist=${at('sources.list')}`,
      'Dir::Etc::sourceparts=/dev/null',
      `Dir::State::lists=${at('lists')}`,
      `Dir::Cache=${at('cache')}`,
      'Acquire::Languages=none',
    ]);
    say(`fetching Debian's package pebble of ${SUITE} (not installed, only unpacked)`);
    const { fault } = await aptGet(['-qq', ...options, 'update']);
    if (fault !== undefined) throw unfetchable(fault);
    const download = await aptGet(['-qq', ...options, 'download', 'pebble'], { cwd: at('debs') });
    if (download.fault !== undefined) throw unfetchable(download.fault);
    for (const name of readdirSync(at('debs')))
      await run('dpkg-deb', ['-x', join(at('debs'), name), at('root')]);
    chmodSync(at('root'), 0o755);
    rmSync(root, { recursive: true, force: true });
    renameSync(at('root'), root);
    say(`unpacked to ${root} (may be deleted at any time; it is made again when needed)`);
  } catch (error) {
    if (error instanceof SetupError) throw error;
    throw unfetchable(error instanceof Error ? error.message : String(error));
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** The mirror that this machine takes its own packages from. */
async function debianMirror() {
  const { fault, stdout } = await aptGet(['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']);
  if (fault !== undefined) throw unfetchable(fault);
  const mirror = stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri));
  if (mirror === undefined) throw unfetchable('no mirror of Debian is among the sources of apt');
  if (!existsSync(KEYRING)) throw unfetchable(`${KEYRING} is missing`);
  return mirror;
}

/** @param {string} why */
const unfetchable = (why) =>
  new SetupError(
    `cannot fetch Debian ${SUITE}'s package pebble, the test CA with ARI: ${why}`,
    "kacme's tests need Debian 12 or newer with its archive keyring, and its package mirror reachable",
  );
