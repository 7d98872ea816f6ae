import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { aptGet, asFlags, cacheDirectory, debianMirror, unprivileged } from './apt.mjs';
import { withMachineLock } from './lock.mjs';
import { SetupError } from './setup-error.mjs';

const run = promisify(execFile);

/** Debian 13: its Pebble (2.6) knows ARI, its HAProxy is 3.0, its lego is what kacme adopts from, its Ansible is one that clouds run. */
const SUITE = 'trixie';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** @typedef {{ say: (line: string) => void }} SayOptions */

/**
 * A package of the newer Debian, or several that go together, unpacked to a directory of its own.
 *
 * @typedef {object} NewerPackage
 * @property {string} name
 * @property {string[]} [packages] unless it is the one of that name
 * @property {string} program its path below the root, which tells that all is there
 * @property {boolean} alone whether it needs no library of its own suite
 */

const PEBBLE = { name: 'pebble', program: 'usr/bin/pebble', alone: true };
const LEGO = { name: 'lego', program: 'usr/bin/lego', alone: true };
const HAPROXY = { name: 'haproxy', program: 'run-haproxy', alone: false };

/** All of it is pure Python, which Debian 12's runs, too; what it needs besides comes from there (ansible.mjs). */
const ANSIBLE = {
  name: 'ansible',
  packages: ['ansible-core', 'ansible-lint', 'python3-ansible-compat', 'ansible-mitogen', 'python3-mitogen'],
  program: 'usr/bin/ansible-playbook',
  alone: true,
};

const KOLLA_ANSIBLE_MODULES = [
  ...['cliff', 'autopage', 'cmd2', 'prettytable', 'stevedore', 'pyperclip', 'wcwidth', 'pbr', 'netaddr'],
  ...['podman', 'requests', 'urllib3', 'idna', 'certifi', 'chardet', 'xdg'],
];

/** What Kolla Ansible's command, its roles and its modules for Podman are made of, likewise. */
const KOLLA_ANSIBLE = {
  name: 'kolla-ansible',
  packages: ['ansible', ...KOLLA_ANSIBLE_MODULES.map((name) => `python3-${name}`)],
  program: 'usr/lib/python3/dist-packages/podman/__init__.py',
  alone: true,
};

const COMPOSE = {
  name: 'docker-compose',
  program: 'usr/libexec/docker/cli-plugins/docker-compose',
  alone: true,
};

/** Docker's engine and what Kolla's modules ask it with. Its runc would need the newer C library (containers.mjs has another). */
const DOCKER = {
  name: 'docker',
  packages: ['docker.io', 'docker-cli', 'containerd', 'python3-docker'],
  program: 'usr/sbin/dockerd',
  alone: true,
};

const REGISTRY = { name: 'docker-registry', program: 'usr/bin/docker-registry', alone: true };

/** @param {NewerPackage} wanted */
const rootOf = ({ name }) => join(cacheDirectory(), `${name}-${SUITE}-${process.arch}`);

/** @param {NewerPackage} wanted */
const programOf = (wanted) => join(rootOf(wanted), wanted.program);

/** Where the Pebble with ARI is, once `ensureNewerDebian` has brought it. */
export const newerPebblePath = () => programOf(PEBBLE);

/** Where HAProxy 3.0 is, likewise. It needs no environment: what it starts with brings its own libraries. */
export const newerHaproxyPath = () => programOf(HAPROXY);

/** Where lego is, the ACME client, likewise. */
export const legoPath = () => programOf(LEGO);

/** Where Ansible and its linter are unpacked, once `ensureNewerAnsible` has brought them. */
export const newerAnsibleRoot = () => rootOf(ANSIBLE);

/** Where that is unpacked which a checkout of Kolla Ansible needs, once `ensureKollaAnsible` has brought it. */
export const kollaAnsibleRoot = () => rootOf(KOLLA_ANSIBLE);

/** Docker's engine, its client and its modules for Python, once `ensureDocker` has brought them. */
export const dockerPrograms = () => ({
  dockerd: programOf(DOCKER),
  docker: join(rootOf(DOCKER), 'usr/bin/docker'),
  modules: join(rootOf(DOCKER), 'usr/lib/python3/dist-packages'),
});

/** Where a registry of images is, once `ensureKollaAnsible` has brought it. */
export const registryPath = () => programOf(REGISTRY);

/** Where Docker Compose is, once `ensureCompose` has brought it. */
export const composePath = () => programOf(COMPOSE);

/**
 * For the tests of docker/ alone; like `ensureNewerDebian`.
 *
 * @param {SayOptions} options
 * @returns {Promise<void>}
 */
export const ensureCompose = (options) => ensure(COMPOSE, options);

/**
 * What `ensureAnsible` needs of it; like `ensureNewerDebian`.
 *
 * @param {SayOptions} options
 * @returns {Promise<void>}
 */
export const ensureNewerAnsible = (options) => ensure(ANSIBLE, options);

/**
 * For the tests with a checkout of Kolla Ansible alone; like `ensureNewerDebian`.
 *
 * @param {SayOptions} options
 * @returns {Promise<void>}
 */
export async function ensureKollaAnsible(options) {
  for (const wanted of [KOLLA_ANSIBLE, REGISTRY]) await ensure(wanted, options);
}

/**
 * For those of them that run with Docker; like `ensureNewerDebian`.
 *
 * @param {SayOptions} options
 * @returns {Promise<void>}
 */
export const ensureDocker = (options) => ensure(DOCKER, options);

/**
 * Brings programs of a newer Debian than this machine's. apt works with a sources list, package lists and caches
 * of its own, so the system never hears of the other suite. Idempotent; runs beside each other share one download.
 *
 * @param {SayOptions} options
 * @returns {Promise<void>}
 * @throws {SetupError} with a remedy
 */
export async function ensureNewerDebian(options) {
  for (const wanted of [PEBBLE, HAPROXY, LEGO]) await ensure(wanted, options);
}

/**
 * @param {NewerPackage} wanted
 * @param {SayOptions} options
 */
async function ensure(wanted, { say }) {
  if (existsSync(programOf(wanted))) return;
  await withMachineLock(
    rootOf(wanted),
    async () => {
      if (!existsSync(programOf(wanted))) await fetchPackage(wanted, say);
    },
    { onWait: () => say('waiting for another run that fetches the same package') },
  );
}

/**
 * @param {NewerPackage} wanted
 * @param {(line: string) => void} say
 */
async function fetchPackage(wanted, say) {
  const { name, packages = [name], alone } = wanted;
  const root = rootOf(wanted);
  const draft = `${root}.${randomUUID().slice(0, 8)}`;
  const at = (/** @type {string} */ path) => join(draft, path);
  try {
    const mirror = await debianMirror();
    if (!existsSync(KEYRING)) throw unfetchable(`${KEYRING} is missing`);
    for (const path of ['lists/partial', 'cache/archives/partial', 'debs/partial', 'root'])
      mkdirSync(at(path), { recursive: true });
    writeFileSync(at('sources.list'), `deb [signed-by=${KEYRING}] ${mirror} ${SUITE} main\n`);
    // Nothing of it is installed here: what the package depends on is chosen from its own suite alone.
    writeFileSync(at('status'), '');
    const options = asFlags([
      ...unprivileged(),
      `Dir::Etc::sourcelist=${at('sources.list')}`,
      'Dir::Etc::sourceparts=/dev/null',
      `Dir::State::lists=${at('lists')}`,
      `Dir::State::status=${at('status')}`,
      `Dir::Cache=${at('cache')}`,
      `Dir::Cache::archives=${at('debs')}`,
      'Acquire::Languages=none',
    ]);
    say(`fetching Debian packages of ${SUITE} (not installed, only unpacked): ${packages.join(' ')}`);
    const download = alone
      ? ['download', ...packages]
      : ['-y', '--no-install-recommends', '--download-only', 'install', ...packages];
    for (const command of [['update'], download]) {
      const { fault } = await aptGet(['-qq', ...options, ...command], { cwd: at('debs') });
      if (fault !== undefined) throw unfetchable(fault);
    }
    for (const archive of readdirSync(at('debs')).filter((file) => file.endsWith('.deb')))
      await run('dpkg-deb', ['-x', join(at('debs'), archive), at('root')]);
    if (!alone) writeLauncher(wanted, at('root'));
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

/**
 * Starts the program with the dynamic loader and the libraries of its own suite (ld.so(8)). Named as the program's
 * argv[0], it is also what a HAProxy master runs again at a reload.
 *
 * @param {NewerPackage} wanted
 * @param {string} unpacked
 */
function writeLauncher(wanted, unpacked) {
  const root = rootOf(wanted);
  const [libraries, loader] = ['usr/lib', 'usr/lib64']
    .filter((path) => existsSync(join(unpacked, path)))
    .flatMap((path) => readdirSync(join(unpacked, path)).map((name) => join(path, name)))
    .reduce(
      ([libraries, loader], path) => [
        path.endsWith('-linux-gnu') ? path : libraries,
        /\/ld-linux[^/]*\.so\.\d+$/.test(path) ? path : loader,
      ],
      ['', ''],
    );
  if (!libraries || !loader) throw new Error('its C library has no dynamic loader where one was expected');
  const command = [
    join(root, loader),
    '--argv0 "$0" --library-path',
    join(root, libraries),
    join(root, 'usr/sbin', wanted.name),
  ];
  writeFileSync(
    join(unpacked, wanted.program),
    `#!/bin/sh\nunset LD_LIBRARY_PATH\nexec ${command.join(' ')} "$@"\n`,
    { mode: 0o755 },
  );
}

/** @param {string} why */
const unfetchable = (why) =>
  new SetupError(
    `cannot fetch packages of Debian ${SUITE}, such as the test CA with ARI and HAProxy 3.0: ${why}`,
    "kacme's tests need Debian 12 or newer with its archive keyring, and its package mirror reachable",
  );
