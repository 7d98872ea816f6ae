import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { stringify } from 'yaml';
import { type AnsibleCore, ansiblePaths, mitogenStrategies } from '../setup/ansible.mjs';
import { programs } from './programs.ts';
import { type ResidentAnsible, startResidentAnsible } from './resident-ansible.ts';
import { scratchDirectory } from './scratch.ts';

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The collection as it stands in the repository. */
export const collectionPath = join(repository, 'roles-adapter');
const standin = join(repository, 'test/fixtures/kolla');

export interface Outcome {
  readonly status: number;
  readonly output: string;
}

export interface ControllerSpec {
  readonly name: string;
  readonly address: string;
  /** It does not answer. */
  readonly down?: boolean;
}

export interface KollaOptions {
  readonly controllers: readonly ControllerSpec[];
  /** Groups of the inventory besides loadbalancer; [kacme] has the first controller unless given. */
  readonly groups?: Readonly<Record<string, readonly string[]>>;
  /** A directory with an engine for each host, by its name, that has the containers run; without it they are only remembered. */
  readonly engines?: string;
  /** 2.19 unless given. */
  readonly ansibleCore?: AnsibleCore | undefined;
  /** What globals.yml says. */
  readonly globals: Readonly<Record<string, unknown>>;
}

/** What the stand-in of kolla_container was told. */
export interface ContainerAction {
  readonly action: string;
  readonly name: string | null;
  readonly image: string | null;
  readonly command: string | null;
  readonly environment: Readonly<Record<string, unknown>> | null;
  readonly volumes: readonly string[] | null;
  readonly engine: string | null;
}

/** What module_utils/standin_state.py keeps. */
interface StandinState {
  readonly containers: Readonly<Record<string, unknown>>;
  readonly log: readonly ContainerAction[];
}

/** A Kolla Ansible of stand-ins on this machine: an inventory, its configuration, and a directory for each host. */
export interface TestKolla extends AsyncDisposable {
  readonly path: string;
  /** Runs playbooks of the collection, or of the stand-in, one after the other, as `kolla-ansible ACTION -p PLAYBOOK` does. */
  play(playbooks: string | readonly string[], action: string, ...args: string[]): Promise<Outcome>;
  /** Reads what lies below /etc/kolla of a host. */
  read(host: string, path: string): Promise<string>;
  actions(host: string): Promise<readonly ContainerAction[]>;
  /** The commands that were given to the container engine. */
  commands(): Promise<readonly string[]>;
  /** Has the stand-ins find something, such as `haproxy-changed-ctl1`, or fail a container that runs once: `fail-bootstrap_kacme`. */
  mark(name: string, text?: string): Promise<void>;
  unmark(name: string): Promise<void>;
  /** Has containers be there that the role did not start. */
  seed(host: string, containers: readonly string[]): Promise<void>;
  /** The containers of a host that are there now. */
  containers(host: string): Promise<readonly string[]>;
  setDown(names: readonly string[]): Promise<void>;
  /** With what the playbooks are run from now on. */
  useAnsible(core: AnsibleCore): void;
}

/** Starts one of the unpacked Python programs; never rejects. */
export function runAnsibleTool(
  name: string,
  args: readonly string[],
  options: {
    readonly cwd: string;
    readonly env?: Readonly<Record<string, string>>;
    readonly ansibleCore?: AnsibleCore;
  },
): Promise<Outcome> {
  const { python, bin, env } = ansiblePaths(options.ansibleCore);
  const program = bin.map((directory) => join(directory, name)).find((path) => existsSync(path));
  const { PATH = '/usr/bin:/bin' } = process.env;
  return new Promise((resolve) => {
    execFile(
      python,
      [program ?? name, ...args],
      {
        cwd: options.cwd,
        maxBuffer: 64 << 20,
        env: {
          ...process.env,
          LC_ALL: 'C.UTF-8',
          ...env,
          ...options.env,
          PATH: [options.env?.['PATH'], ...bin, PATH].filter(Boolean).join(':'),
        },
      },
      (error, stdout, stderr) =>
        resolve({ status: error === null ? 0 : Number(error.code ?? 1), output: stdout + stderr }),
    );
  });
}

/** What Ansible warns of, besides that Mitogen is no part of it. */
export const warningsIn = ({ output }: Outcome): readonly string[] =>
  (output.match(/^\[(?:DEPRECATION )?WARNING\]: .*$/gm) ?? []).filter(
    (line) =>
      !line.includes('Use of strategy plugins not included in ansible.builtin') &&
      !line.includes('Deprecation warnings can be disabled'),
  );

export async function prepareKolla(options: KollaOptions): Promise<TestKolla> {
  const scratch = await scratchDirectory();
  const { path } = scratch;
  let { ansibleCore = '2.19' } = options;
  const at = (...parts: readonly string[]) => join(path, ...parts);
  await Promise.all(['state', 'hosts', 'bin'].map((name) => mkdir(at(name))));
  await mkdir(at('etc/globals.d'), { recursive: true });
  // As an operator does it: Kolla Ansible's directories beside the playbooks of the collection.
  await cp(standin, at('playbooks'), { recursive: true });
  await cp(join(collectionPath, 'playbooks'), at('playbooks'), { recursive: true });
  const engine = options.engines === undefined ? ENGINE : await readFile(join(standin, 'bin/engine'));
  for (const name of ['docker', 'podman']) await writeFile(at('bin', name), engine, { mode: 0o755 });
  for (const { name } of options.controllers) {
    const python = at('bin', `python-${name}`);
    await writeFile(python, `#!/bin/sh\nexport STANDIN_HOST=${name}\nexec /usr/bin/python3 "$@"\n`);
    await chmod(python, 0o755);
  }
  const env = {
    PATH: [at('bin'), pathOfAnsible()].join(':'),
    STANDIN_STATE: at('state'),
    STANDIN_COMMANDS: at('commands'),
    ...(options.engines === undefined ? {} : { STANDIN_ENGINES: options.engines }),
  };
  const writeInventory = (down: readonly string[]) =>
    writeFile(at('inventory.yml'), stringify(inventoryOf(options, at, down)));
  // As JSON: the text yes, unquoted, would be a boolean to Ansible.
  const setGlobals = (globals: Readonly<Record<string, unknown>>) =>
    writeFile(at('etc/globals.yml'), JSON.stringify(globals));
  await writeInventory(options.controllers.filter(({ down }) => down).map(({ name }) => name));
  await setGlobals(options.globals);
  const play = async (playbooks: string | readonly string[], action: string, ...args: string[]) => {
    const others = (await readdir(at('etc/globals.d'))).toSorted().map((name) => join('globals.d', name));
    const words = [
      ...['-i', at('inventory.yml')],
      ...['globals.yml', ...others].flatMap((file) => ['-e', `@${at('etc', file)}`]),
      '-e',
      JSON.stringify({ kolla_action: action, CONFIG_DIR: at('etc'), standin_hosts: at('hosts') }),
      ...args,
      ...[playbooks].flat().map((name) => at('playbooks', name)),
    ];
    if (ansibleCore === '2.19') {
      const { status, stdout, stderr } = await (await resident()).play({ args: words, cwd: path, env });
      return { status, output: stdout + stderr };
    }
    const settings = await settingsIn(path, ansibleCore);
    return runAnsibleTool('ansible-playbook', words, {
      cwd: path,
      env: { ...settings, ...env },
      ansibleCore,
    });
  };
  const stateOf = async (host: string): Promise<StandinState> =>
    JSON.parse(await readFile(at('state', `${host}.json`), 'utf8'));
  return {
    path,
    play,
    useAnsible: (core) => {
      ansibleCore = core;
    },
    setDown: writeInventory,
    read: (host, file) => readFile(at('hosts', host, file), 'utf8'),
    actions: async (host) => (await stateOf(host)).log,
    containers: async (host) => Object.keys((await stateOf(host)).containers),
    seed: (host, containers) =>
      writeFile(
        at('state', `${host}.json`),
        JSON.stringify({ containers: Object.fromEntries(containers.map((name) => [name, {}])), log: [] }),
      ),
    commands: async () =>
      (await readFile(at('commands'), 'utf8').catch(() => '')).split('\n').filter(Boolean),
    mark: (name, text = '') => writeFile(at('state', name), text),
    unmark: (name) => rm(at('state', name)),
    [Symbol.asyncDispose]: scratch.remove,
  };
}

let started: Promise<ResidentAnsible & { remove(): Promise<void> }> | undefined;

/** One for all playbooks of a test file. */
const resident = () => {
  started ??= (async () => {
    const { path, remove } = await scratchDirectory();
    const settings = await settingsIn(path, '2.19');
    return { ...startResidentAnsible({ ...settings, PATH: pathOfAnsible() }, path), remove };
  })();
  return started;
};

afterAll(async () => {
  const ansible = await started;
  await ansible?.close();
  await ansible?.remove();
});

function pathOfAnsible(): string {
  const { ssh, sshKeygen } = programs();
  const { PATH = '/usr/bin:/bin' } = process.env;
  return [dirname(sshKeygen), dirname(ssh), PATH].join(':');
}

/** Has Ansible keep what it writes below this directory. */
async function settingsIn(path: string, core: AnsibleCore): Promise<Readonly<Record<string, string>>> {
  const at = (...parts: readonly string[]) => join(path, ...parts);
  await mkdir(at('tmp'), { recursive: true });
  // Where Ansible looks for it.
  await mkdir(at('collections/ansible_collections/kacme'), { recursive: true });
  const collection = at('collections/ansible_collections/kacme/kolla');
  if (!existsSync(collection)) await symlink(collectionPath, collection);
  return {
    LC_ALL: 'C.UTF-8',
    ANSIBLE_HOME: at('tmp'),
    ANSIBLE_LOCAL_TEMP: at('tmp'),
    ANSIBLE_REMOTE_TEMP: at('tmp'),
    ANSIBLE_COLLECTIONS_PATH: at('collections'),
    ANSIBLE_PIPELINING: '1',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_RETRY_FILES_ENABLED: '0',
    ANSIBLE_HOST_KEY_CHECKING: '0',
    // A busy machine takes seconds to start Python; a host that is down refuses at once.
    ANSIBLE_TIMEOUT: '60',
    ANSIBLE_GATHERING: 'explicit',
    ANSIBLE_FORKS: '6',
    LD_LIBRARY_PATH: programs().env['LD_LIBRARY_PATH'] ?? '',
    ...ENVIRONMENTS[core],
  };
}

const ENVIRONMENTS: Readonly<Record<AnsibleCore, Readonly<Record<string, string>>>> = {
  '2.19': { ANSIBLE_STRATEGY: 'mitogen_linear', ANSIBLE_STRATEGY_PLUGINS: mitogenStrategies() },
  // It stands for 2.17 and 2.18, of which the collection's requires_ansible speaks.
  '2.14': { ANSIBLE_COLLECTIONS_ON_ANSIBLE_VERSION_MISMATCH: 'ignore' },
};

function inventoryOf(
  { controllers, groups = {}, globals }: KollaOptions,
  at: (...parts: readonly string[]) => string,
  down: readonly string[],
) {
  const members = (names: readonly string[]) => ({
    hosts: Object.fromEntries(names.map((name) => [name, {}])),
  });
  const names = controllers.map(({ name }) => name);
  const children = { kacme: names.slice(0, 1), loadbalancer: names, ...groups };
  return {
    all: {
      vars: {
        ansible_become: false,
        // 2025.1 does not have it yet.
        ...(globals['openstack_release'] === '2025.1'
          ? {}
          : {
              docker_image_url: '{{ docker_registry }}/{{ docker_namespace }}/{{ docker_image_name_prefix }}',
            }),
      },
      hosts: Object.fromEntries(
        controllers.map(({ name, address }) => [
          name,
          {
            standin_address: address,
            ansible_python_interpreter: at('bin', `python-${name}`),
            // Nobody listens on port 1.
            ...(down.includes(name)
              ? { ansible_connection: 'ssh', ansible_host: '127.0.0.1', ansible_port: 1 }
              : { ansible_connection: 'local' }),
          },
        ]),
      ),
      children: Object.fromEntries(Object.entries(children).map(([name, list]) => [name, members(list)])),
    },
  };
}

/** Stands in for docker and podman: writes down what it is asked, and answers as the containers would. */
const ENGINE = `#!/bin/sh
echo "$(basename "$0") $*" >> "$STANDIN_COMMANDS"
case "$*" in
  *"exec -u root haproxy "*) test ! -e "$STANDIN_STATE/haproxy-stopped-$STANDIN_HOST" || { echo "container is not running" >&2; exit 1; } ;;
esac
case "$*" in
  "volume inspect"*) cat "$STANDIN_STATE/volume-$STANDIN_HOST" ;;
  *"kacme status --json") test ! -e "$STANDIN_STATE/untrusted" || { echo '{"certificates":[{"name":"external","state":"self-signed"}],"hosts":[]}'; exit 3; }
     echo '{"certificates":[{"name":"external","state":"valid"}],"hosts":[]}' ;;
  *"kacme status") echo "everything is as it should be" ;;
  *"kolla_set_configs --check") test ! -e "$STANDIN_STATE/haproxy-changed-$STANDIN_HOST" ;;
  *"test -e /run/kacme-reload-is-due") test -e "$STANDIN_STATE/reload-is-due-$STANDIN_HOST" ;;
  *"touch /run/kacme-reload-is-due") touch "$STANDIN_STATE/reload-is-due-$STANDIN_HOST" ;;
  *"rm -f /run/kacme-reload-is-due") rm -f "$STANDIN_STATE/reload-is-due-$STANDIN_HOST" ;;
  *"chown -c haproxy: "*) test -e "$STANDIN_STATE/given-$STANDIN_HOST" || { touch "$STANDIN_STATE/given-$STANDIN_HOST"; echo "changed ownership"; } ;;
  *"cat /etc/ssh/ssh_host_ed25519_key.pub") echo "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFallback$STANDIN_HOST root" ;;
  *"test -d /var/lib/kolla/kacme-manages/"*) test ! -e "$STANDIN_STATE/haproxy-before-kacme" ;;
  *"/haproxy_run.sh /etc/haproxy/haproxy_run.sh") test ! -e "$STANDIN_STATE/script-changed" ;;
  *"haproxy kolla_set_configs") rm -f "$STANDIN_STATE/haproxy-changed-$STANDIN_HOST" ;;
  *"kacme reload --host "*) test ! -e "$STANDIN_STATE/reload-fails" || { echo "ERR_HAPROXY_RELOAD" >&2; exit 1; } ;;
esac
`;
