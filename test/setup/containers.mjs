import { execFile, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { aptGet, asFlags, cacheDirectory, debianMirror, unprivileged } from './apt.mjs';
import { afterItsProcesses, removeMounted } from './leftovers.mjs';
import { withMachineLock } from './lock.mjs';
import { SetupError } from './setup-error.mjs';

const run = promisify(execFile);

/** What builds and runs images without an engine's service, and what makes networks for them. */
const NETWORKING = ['iproute2', 'netavark', 'aardvark-dns', 'iptables'];
const PACKAGES = ['podman', 'conmon', 'runc', 'debootstrap', ...NETWORKING];
const SUITE = 'trixie';
/** What the tests need of a base that is not in Debian's smallest set. */
const INCLUDED = ['ca-certificates', 'libatomic1', 'curl', 'sudo', 'python3-minimal', 'python3-jinja2'];
/** As in the official images: no layer carries apt's own indexes. */
const APT = 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n';
/** The line of docker/Dockerfile's NODE. */
const NODE_LINE = '24';
const NPM_LINE = '11';

const short = (/** @type {readonly string[]} */ parts) =>
  createHash('sha256').update(parts.join()).digest('hex').slice(0, 8);

const toolsDirectory = () => join(cacheDirectory(), `containers-${process.arch}-${short(PACKAGES)}`);
/** Where the base images are. */
export const baseStore = () =>
  join(cacheDirectory(), `images-${SUITE}-${process.arch}-${short([...INCLUDED, NODE_LINE, NPM_LINE, APT])}`);

/** The base images, in a store that those of the tests read from. */
export const BASE_IMAGES = {
  /** Debian with what `INCLUDED` says, Node and npm. */
  debian: 'localhost/kacme-lab/debian:latest',
  /** Node and its libraries: no shell, no package manager, no other program. */
  nodeOnly: 'localhost/kacme-lab/node-only:latest',
};

/** @typedef {{ podman: string, debootstrap: string, conmon: string, runc: string, ip: string, libraryPath: string, firewall: string, firewallModules: string }} ContainerTools */

/** ip(8), and the variables that it needs. */
export function ipCommand() {
  const { ip, libraryPath } = tools();
  return { command: ip, env: { LD_LIBRARY_PATH: libraryPath } };
}

/** What runs a container for an engine. */
export const runcPath = () => tools().runc;

/** @returns {ContainerTools} */
function tools(root = toolsDirectory()) {
  const triplet = readdirSync(join(root, 'usr/lib')).find((name) => name.endsWith('-linux-gnu')) ?? '';
  return {
    podman: join(root, 'usr/bin/podman'),
    conmon: join(root, 'usr/bin/conmon'),
    runc: join(root, 'usr/sbin/runc'),
    debootstrap: join(root, 'usr/sbin/debootstrap'),
    ip: ['usr/bin/ip', 'bin/ip'].map((path) => join(root, path)).find(existsSync) ?? 'ip',
    firewall: join(root, 'usr/sbin/xtables-nft-multi'),
    firewallModules: join(root, 'usr/lib', triplet, 'xtables'),
    libraryPath: [join(root, 'usr/lib', triplet), join(root, 'lib', triplet)].join(':'),
  };
}

/** Why no network of machines can be made here; undefined when it can. */
export async function whyNoNetworks() {
  const obstacle = await whyNoContainers();
  if (obstacle !== undefined) return obstacle;
  const { command, env } = ipCommand();
  const attempt = ['link', 'add', 'kacme-a', 'type', 'veth', 'peer', 'name', 'kacme-b'];
  const bridge = ['link', 'add', 'kacme-c', 'type', 'bridge'];
  try {
    for (const args of [attempt, bridge])
      await run('unshare', ['--net', command, ...args], { env: { ...process.env, ...env } });
    return undefined;
  } catch (error) {
    return `this machine lets nobody make networks: ${error instanceof Error ? error.message.trim() : error}`;
  }
}

/**
 * Why images cannot be built and run here; undefined when they can.
 *
 * @returns {Promise<string | undefined>}
 */
export async function whyNoContainers() {
  if (process.getuid?.() !== 0) return 'building and running images in these tests needs root';
  try {
    await run('unshare', ['--mount', '--pid', '--uts', '--ipc', '--fork', 'true']);
    return undefined;
  } catch (error) {
    return `this machine lets nobody make namespaces: ${error instanceof Error ? error.message.trim() : error}`;
  }
}

/**
 * @typedef {object} PodmanOptions
 * @property {boolean} [bases] false: without the store of the base images
 * @property {readonly string[]} [stores] more to read images from
 * @property {string} [images] where its own images and containers are instead
 * @property {string} [network] of containers that ask for none
 */

/**
 * A Podman with files of its own alone below `directory`: it does not know the system's containers.
 *
 * @param {string} directory
 * @param {PodmanOptions} [options]
 */
export function podmanIn(
  directory,
  { bases = true, stores = [], images = directory, network = 'host' } = {},
) {
  const root = toolsDirectory();
  const { podman, conmon, runc, libraryPath, firewall, firewallModules } = tools(root);
  const at = (/** @type {string} */ name) => join(directory, name);
  mkdirSync(at('home/.config/containers'), { recursive: true });
  writeFileSync(
    at('home/.config/containers/policy.json'),
    JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }),
  );
  // netavark looks for it in the PATH; which of iptables' commands it is, is in its name.
  mkdirSync(at('bin'), { recursive: true });
  for (const name of ['iptables', 'ip6tables'])
    if (!existsSync(at(`bin/${name}`))) symlinkSync(firewall, at(`bin/${name}`));
  const environment = {
    PATH: `${at('bin')}:${process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin'}`,
    LD_LIBRARY_PATH: libraryPath,
    XTABLES_LIBDIR: firewallModules,
  };
  const list = (/** @type {readonly string[]} */ items) => JSON.stringify(items);
  writeFileSync(
    at('containers.conf'),
    [
      '[containers]',
      // What Podman asks for otherwise needs CAP_SYS_RESOURCE.
      'default_ulimits = ["nofile=1024:20000", "nproc=4096:4096"]',
      `netns = ${JSON.stringify(network)}`,
      'log_driver = "k8s-file"',
      '[engine]',
      'runtime = "runc"',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "none"',
      'lock_type = "file"',
      `helper_binaries_dir = ${list([join(root, 'usr/lib/podman')])}`,
      `tmp_dir = ${JSON.stringify(join(images, 'tmp'))}`,
      `conmon_path = ${list([conmon])}`,
      // conmon runs Podman again when a container has ended, and gives it this environment alone.
      `conmon_env_vars = ${list(Object.entries(environment).map(([name, value]) => `${name}=${value}`))}`,
      '[engine.runtimes]',
      `runc = ${list([runc])}`,
      '[network]',
      `network_config_dir = ${JSON.stringify(at('networks'))}`,
      'network_backend = "netavark"',
    ].join('\n'),
  );
  writeFileSync(
    at('storage.conf'),
    [
      '[storage]',
      'driver = "overlay"',
      `graphroot = ${JSON.stringify(join(images, 'graph'))}`,
      `runroot = ${JSON.stringify(join(images, 'run'))}`,
      '[storage.options]',
      `additionalimagestores = ${list([...(bases ? [baseStore()] : []), ...stores].map((store) => join(store, 'graph')))}`,
    ].join('\n'),
  );
  writeFileSync(at('registries.conf'), 'unqualified-search-registries = []\n');
  const env = {
    ...environment,
    HOME: at('home'),
    TMPDIR: images,
    CONTAINERS_CONF: at('containers.conf'),
    CONTAINERS_STORAGE_CONF: at('storage.conf'),
    CONTAINERS_REGISTRIES_CONF: at('registries.conf'),
    // Its timers for health checks are systemd's; the tests run the checks themselves.
    DISABLE_HC_SYSTEMD: 'true',
  };
  return { command: podman, env };
}

/**
 * Flags of podman-build(1) for an image that nothing is pulled for.
 *
 * @param {Readonly<Record<string, string>>} args
 * @returns {readonly string[]}
 */
export const buildFlags = (args) => [
  ...['--isolation', 'oci', '--network', 'host', '--format', 'docker', '--pull=never', '--layers=false'],
  ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
];

/**
 * Ends what a Podman in `directory` still runs, and removes the directory.
 *
 * @param {string} directory
 * @param {PodmanOptions} [options]
 */
export async function removePodman(directory, options) {
  const { command, env } = podmanIn(directory, options);
  await run(command, ['rm', '--all', '--force', '--time', '0'], { env });
  // A conmon outlives its container: it runs `podman container cleanup`, which mounts the store's directory again.
  await afterItsProcesses(directory);
  await removeMounted(directory);
}

/**
 * Brings the tools and the base images; neither installs a package. Idempotent; runs beside each other share one download.
 *
 * @param {{ say: (line: string) => void }} options
 * @throws {SetupError} with a remedy
 */
export async function ensureContainers({ say }) {
  const onWait = () => say('waiting for another run that makes the same base images');
  const missing = () => !existsSync(toolsDirectory()) || !existsSync(baseStore());
  if (!missing()) return;
  await withMachineLock(
    baseStore(),
    async () => {
      try {
        if (!existsSync(toolsDirectory())) await unpackTools(say);
        if (!existsSync(baseStore())) await makeBases(say);
      } catch (error) {
        if (error instanceof SetupError) throw error;
        throw new SetupError(
          `cannot make the base images for the tests of docker/: ${error instanceof Error ? error.message : error}`,
          "kacme's tests need Debian 12 or newer, with its package mirror and the npm registry reachable",
        );
      }
    },
    { onWait },
  );
}

/** @param {(line: string) => void} say */
async function unpackTools(say) {
  const draft = `${toolsDirectory()}.${randomUUID().slice(0, 8)}`;
  const archives = `${draft}.debs`;
  try {
    mkdirSync(join(archives, 'partial'), { recursive: true });
    mkdirSync(draft);
    say(`fetching Debian packages (not installed, only unpacked): ${PACKAGES.join(' ')}`);
    const flags = ['-qq', '-y', '--no-install-recommends', '--download-only', '--reinstall'];
    const options = asFlags([`Dir::Cache::archives=${archives}`, ...unprivileged()]);
    const download = ['install', ...flags, ...options, ...PACKAGES];
    if ((await aptGet(download)).fault !== undefined) {
      say('apt-get update (the package lists are missing or too old)');
      const fault = (await aptGet(['-qq', 'update'])).fault ?? (await aptGet(download)).fault;
      if (fault !== undefined) throw new Error(fault);
    }
    for (const name of readdirSync(archives).filter((file) => file.endsWith('.deb')))
      await run('dpkg-deb', ['-x', join(archives, name), draft]);
    chmodSync(draft, 0o755);
    renameSync(draft, toolsDirectory());
    say(`unpacked to ${toolsDirectory()} (may be deleted at any time; it is made again when needed)`);
  } finally {
    rmSync(draft, { recursive: true, force: true });
    rmSync(archives, { recursive: true, force: true });
  }
}

/** @param {(line: string) => void} say */
async function makeBases(say) {
  const store = baseStore();
  const draft = `${store}.${randomUUID().slice(0, 8)}`;
  const work = `${draft}.work`;
  const rootfs = join(work, 'debian');
  const scripts = join(toolsDirectory(), 'usr/share/debootstrap');
  try {
    mkdirSync(work, { recursive: true });
    say(`debootstrap ${SUITE} and Node ${NODE_LINE} for base images (a minute or two)`);
    const flags = ['--variant=minbase', `--include=${INCLUDED.join()}`];
    await run(tools().debootstrap, [...flags, SUITE, rootfs, await debianMirror()], {
      env: { ...process.env, LC_ALL: 'C', DEBOOTSTRAP_DIR: scripts },
      maxBuffer: 64 << 20,
    });
    for (const cache of ['var/cache/apt/archives', 'var/lib/apt/lists'])
      rmSync(join(rootfs, cache), { recursive: true, force: true });
    writeFileSync(join(rootfs, 'etc/apt/apt.conf.d/no-indexes'), APT);
    for (const name of ['pkgcache.bin', 'srcpkgcache.bin'])
      rmSync(join(rootfs, 'var/cache/apt', name), { force: true });
    await addNode(work, rootfs);
    await copyNodeOnly(rootfs, join(work, 'node-only'));
    await importImage(draft, rootfs, BASE_IMAGES.debian);
    await importImage(draft, join(work, 'node-only'), BASE_IMAGES.nodeOnly);
    renameSync(draft, store);
    say(`base images are in ${store} (may be deleted at any time; they are made again when needed)`);
  } finally {
    rmSync(draft, { recursive: true, force: true });
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * As in the official images: Node at /usr/local/bin, npm at /usr/local/lib.
 *
 * @param {string} work
 * @param {string} rootfs
 */
async function addNode(work, rootfs) {
  const packages = [`node-linux-${process.arch}@${NODE_LINE}`, `npm@${NPM_LINE}`];
  for (const [index, name] of packages.entries()) {
    const { stdout } = await run('npm', ['pack', '--silent', '--loglevel=error', name], { cwd: work });
    const archive = stdout.trim().split('\n').at(-1) ?? '';
    mkdirSync(join(work, `npm-${index}`));
    await run('tar', ['-xzf', join(work, archive), '-C', join(work, `npm-${index}`)]);
  }
  const local = (/** @type {string} */ path) => join(rootfs, 'usr/local', path);
  mkdirSync(local('lib/node_modules'), { recursive: true });
  await run('cp', [join(work, 'npm-0/package/bin/node'), local('bin/node')]);
  await run('cp', ['-r', join(work, 'npm-1/package'), local('lib/node_modules/npm')]);
  await run('ln', ['-s', '../lib/node_modules/npm/bin/npm-cli.js', local('bin/npm')]);
  for (const path of ['bin/node', 'lib/node_modules/npm/bin/npm-cli.js']) chmodSync(local(path), 0o755);
}

/**
 * @param {string} rootfs
 * @param {string} target
 */
async function copyNodeOnly(rootfs, target) {
  const { stdout } = await run('chroot', [rootfs, 'ldd', '/usr/local/bin/node']);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
  for (const path of ['/usr/local/bin/node', ...libraries]) {
    mkdirSync(join(target, path, '..'), { recursive: true });
    await run('cp', ['-L', join(rootfs, path), join(target, path)]);
  }
  mkdirSync(join(target, 'tmp'));
  chmodSync(join(target, 'tmp'), 0o1777);
}

/**
 * @param {string} store
 * @param {string} rootfs
 * @param {string} image
 */
async function importImage(store, rootfs, image) {
  mkdirSync(store, { recursive: true });
  const { command, env } = podmanIn(store, { bases: false });
  const tar = spawn('tar', ['-C', rootfs, '--numeric-owner', '-c', '.'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const importing = spawn(command, ['import', '--quiet', '-', image], {
    env,
    stdio: [tar.stdout, 'ignore', 'inherit'],
  });
  const status = await new Promise((resolve, reject) => {
    importing.once('error', reject).once('close', resolve);
  });
  if (status !== 0) throw new Error(`podman import of ${image} ended with ${status}`);
}
