import { cp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { collectionPath, prepareKolla, runAnsibleTool } from '../support/ansible.ts';
import { scratchDirectory } from '../support/scratch.ts';

test('the collection passes ansible-lint in its production profile', { timeout: 240_000 }, async () => {
  const scratch = await scratchDirectory();
  onTestFinished(scratch.remove);
  // It leaves a cache beside what it reads.
  const collections = join(scratch.path, 'collections');
  const copy = join(collections, 'ansible_collections/kacme/kolla');
  await cp(collectionPath, copy, { recursive: true });
  const { status, output } = await runAnsibleTool(
    'ansible-lint',
    ['--offline', '--nocolor', '-c', '.ansible-lint'],
    {
      cwd: copy,
      env: { ANSIBLE_COLLECTIONS_PATH: collections, HOME: scratch.path, XDG_CACHE_HOME: scratch.path },
    },
  );
  expect(output).toMatch(
    /Passed: 0 failure\(s\), 0 warning\(s\) on \d\d files\. Profile 'production' was required, and it passed\./,
  );
  expect(status).toBe(0);
});

test('the collection passes yamllint', { timeout: 60_000 }, async () => {
  expect(await runAnsibleTool('yamllint', ['--strict', '.'], { cwd: collectionPath })).toEqual({
    status: 0,
    output: '',
  });
});

test('the collection can be built and installed', { timeout: 60_000 }, async () => {
  const scratch = await scratchDirectory();
  onTestFinished(scratch.remove);
  const { status, output } = await runAnsibleTool(
    'ansible-galaxy',
    ['collection', 'install', '--offline', '-p', scratch.path, collectionPath],
    { cwd: scratch.path, env: { HOME: scratch.path, ANSIBLE_HOME: scratch.path } },
  );
  expect(status, output).toBe(0);
  const installed = join(scratch.path, 'ansible_collections/kacme/kolla');
  expect(await readdir(installed)).toEqual(expect.arrayContaining(['MANIFEST.json', 'playbooks', 'roles']));
});

test('every playbook is sound beside the roles of Kolla', { timeout: 120_000 }, async () => {
  const kolla = await prepareKolla({ controllers: [{ name: 'ctl1', address: '127.0.0.1' }], globals: {} });
  onTestFinished(() => kolla[Symbol.asyncDispose]());
  const playbooks = (await readdir(join(collectionPath, 'playbooks'))).sort();
  expect(playbooks).toEqual(['kacme.yml', 'migrate.yml', 'prepare.yml', 'reload.yml', 'rollback.yml']);
  const { status, output } = await kolla.play(playbooks, 'deploy', '--syntax-check');
  expect(status, output).toBe(0);
});

test("the sidecar's sshd is configured as that of the sshd image", async () => {
  const directives = async (path: string) =>
    (await readFile(join(collectionPath, path), 'utf8'))
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith('HostKey '));
  const image = await directives('../docker/ssh/sshd_config');
  expect(image.length).toBeGreaterThan(20);
  const role = await directives('roles/kacme/templates/sshd_config.j2');
  const differing = ['ListenAddress', 'Port', 'AuthorizedKeysFile', 'AllowUsers', 'PermitOpen'];
  expect(role.filter((line) => !differing.includes(line.split(' ')[0] ?? ''))).toEqual(
    image.filter((line) => !line.startsWith('AuthorizedKeysFile ')),
  );
});
