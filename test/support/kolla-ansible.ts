import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ansiblePaths } from '../setup/ansible.mjs';
import { dockerPrograms, kollaAnsibleRoot } from '../setup/newer-debian.mjs';
import type { Outcome } from './ansible.ts';
import type { Controller } from './kolla-controller.ts';

const repository = join(import.meta.dirname, '..', '..');
const fixtures = join(repository, 'test/fixtures/kolla-ansible');

/** A checkout of Kolla Ansible, with its own command, in a cloud of one host: everything at the places that its manual names. */
export interface KollaAnsible {
  /** `kolla-ansible ACTION -i INVENTORY ARGS`, run where docs/kolla.md has the playbooks. */
  run(action: string, ...args: string[]): Promise<Outcome>;
  /** Another program on that host. */
  exec(...command: string[]): Promise<Outcome>;
  /** Changes a file below /etc/kolla. */
  edit(name: string, change: (text: string) => string): Promise<void>;
}

/**
 * Follows "Install" of docs/kolla.md, word by word.
 *
 * @param globals what globals.yml says
 */
export async function installInto(
  controller: Controller,
  source: string,
  globals: Readonly<Record<string, unknown>>,
): Promise<KollaAnsible> {
  const at = (...parts: readonly string[]) => join(controller.kolla, ...parts);
  const write = (name: string, text: string) => writeFile(at(name), text, { mode: 0o600 });
  const read = (path: string) => readFile(join(source, path), 'utf8');
  await mkdir(at('globals.d'));
  await write('globals.yml', JSON.stringify(globals));
  await write('passwords.yml', JSON.stringify(filled(parse(await read('etc/kolla/passwords.yml')))));
  const inventory = (await read('ansible/inventory/all-in-one')).replaceAll(
    'ansible_connection=local',
    // Everything here is root's, and there may be no sudo.
    'ansible_connection=local ansible_become=false',
  );
  await write('inventory', `${inventory}\n[kacme]\nlocalhost\n`);

  const { python, bin, env } = ansiblePaths();
  const home = join(controller.scratch, 'home');
  await registerCommand(source, join(home, 'python'));
  const program = (name: string, ...command: readonly string[]) =>
    writeFile(join(controller.bin, name), `#!/bin/sh\nexec ${command.join(' ')} "$@"\n`, { mode: 0o755 });
  for (const name of ['ansible-playbook', 'ansible-galaxy'])
    await program(name, python, join(bin[0] ?? '', name));
  await program('kolla-ansible', python, '-c', `'${MAIN}'`);
  const collections = join(kollaAnsibleRoot(), 'usr/lib/python3/dist-packages');
  const modules = [source, join(home, 'python'), fixtures, env.PYTHONPATH, collections];
  if (controller.engine === 'docker') modules.push(dockerPrograms().modules);
  const environment = {
    ...process.env,
    LC_ALL: 'C.UTF-8',
    HOME: home,
    PYTHONPATH: modules.join(':'),
    // What is installed goes to the first.
    ANSIBLE_COLLECTIONS_PATH: [
      join(home, '.ansible/collections'),
      join(fixtures, 'collections'),
      collections,
    ].join(':'),
    PYTHONDONTWRITEBYTECODE: '1',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_PIPELINING: '1',
    // Its version is git's otherwise, and a checkout may come without.
    PBR_VERSION: '1.0.0',
    KOLLA_ANSIBLE: source,
  };
  const finish = (cwd: string, command: readonly string[]) =>
    new Promise<Outcome>((resolve) => {
      const [file = '', ...args] = [
        ...controller.enter,
        'env',
        `--chdir=${cwd}`,
        `PATH=${controller.path}`,
        ...command,
      ];
      const options = { env: environment, maxBuffer: 64 << 20 };
      execFile(file, args, options, (error, stdout, stderr) =>
        resolve({ status: error === null ? 0 : Number(error.code ?? 1), output: stdout + stderr }),
      );
    });
  const installed = await finish(repository, ['sh', '-e', '-c', await installBlock()]);
  if (installed.status !== 0) throw new Error(`the commands of docs/kolla.md failed: ${installed.output}`);
  return {
    run: (action, ...args) =>
      finish(PLAYBOOKS, ['kolla-ansible', action, '-i', '/etc/kolla/inventory', ...args]),
    exec: (...command) => finish('/', command),
    edit: async (name, change) => write(name, change(await readFile(at(name), 'utf8'))),
  };
}

/** Where docs/kolla.md puts the playbooks. */
const PLAYBOOKS = '/etc/kolla/kacme-playbooks';

const MAIN = 'import sys; from kolla_ansible.cmd.kolla_ansible import main; sys.exit(main(sys.argv[1:]))';

async function installBlock(): Promise<string> {
  const page = await readFile(join(repository, 'docs/kolla.md'), 'utf8');
  const [, block] = /^## Install\n.*?^```sh\n(.*?)^```$/ms.exec(page) ?? [];
  if (block === undefined) throw new Error('docs/kolla.md has no commands below "## Install"');
  return block;
}

/** As `pip install --editable` leaves it: the command finds its actions, and the files of the checkout. */
async function registerCommand(source: string, directory: string): Promise<void> {
  const about = join(directory, 'kolla_ansible-1.0.0.dist-info');
  await mkdir(about, { recursive: true });
  // The one or the other, depending on the release.
  const [cfg, toml] = await Promise.all(
    ['setup.cfg', 'pyproject.toml'].map((name) => readFile(join(source, name), 'utf8').catch(() => '')),
  );
  const actions = `${cfg}\n${toml}`.matchAll(/^ *([\w-]+) = "?(kolla_ansible\.cli\.commands:\w+)"?$/gm);
  const lines = [...actions].map(([, name, object]) => `${name} = ${object}\n`);
  if (lines.length === 0)
    throw new Error(`KOLLA_ANSIBLE_SRC: ${source} names no actions of the command kolla-ansible`);
  await writeFile(join(about, 'METADATA'), 'Metadata-Version: 2.1\nName: kolla-ansible\nVersion: 1.0.0\n');
  await writeFile(join(about, 'entry_points.txt'), `[kolla_ansible.cli]\n${lines.join('')}`);
  await writeFile(
    join(about, 'direct_url.json'),
    JSON.stringify({ url: `file://${source}`, dir_info: { editable: true } }),
  );
}

/** Every password that is asked for, down to the keys of a pair. */
function filled(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value ?? 'secret';
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, filled(part)]));
}
