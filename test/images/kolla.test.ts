import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { whyNoContainers } from '../setup/containers.mjs';
import { kollaImage } from '../support/images.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { startPodman, type TestPodman } from '../support/podman.ts';

const run = promisify(execFile);
const CONFIG_FILES = '/var/lib/kolla/config_files';

const obstacle = await whyNoContainers();

describe.skipIf(obstacle !== undefined)(
  `the Kolla image${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let podman: TestPodman;

    let image: string;

    beforeAll(async () => {
      podman = await startPodman();
      image = await kollaImage(podman);
    }, 180_000);

    afterAll(() => podman?.close(), 60_000);

    /** A lab whose kacme is configured as Kolla Ansible would: files that config.json lists, copied at each start. */
    async function kollaLab({ configuration }: { configuration?: string } = {}) {
      const lab = await labKacme();
      onTestFinished(() => lab.close());
      const files = join(dirname(lab.kacme.configPath), 'kolla');
      await mkdir(files);
      const written = parse(await readFile(lab.kacme.configPath, 'utf8'));
      const { user } = written.pools.lb.ssh;
      const inside = {
        ...written,
        store: { file: '/var/lib/kacme' },
        pools: {
          lb: {
            ...written.pools.lb,
            ssh: { user, identity: { file: '/etc/kacme/id_ed25519' }, knownHosts: '/etc/kacme/known_hosts' },
          },
        },
      };
      inside.issuers.pebble.caFile = '/etc/kacme/ca.pem';
      await writeFile(join(files, 'kacme.yaml'), configuration ?? JSON.stringify(inside));
      await copyFile(lab.fleet.identityFile, join(files, 'id_ed25519'));
      await copyFile(lab.fleet.knownHostsFile, join(files, 'known_hosts'));
      await copyFile(lab.pebble.caFile, join(files, 'ca.pem'));
      const entry = (name: string, perm: string) => ({
        source: `${CONFIG_FILES}/${name}`,
        dest: `/etc/kacme/${name}`,
        owner: 'kacme',
        perm,
      });
      await writeFile(
        join(files, 'config.json'),
        JSON.stringify({
          command: 'kacme serve',
          config_files: [
            entry('kacme.yaml', '0600'),
            entry('id_ed25519', '0600'),
            entry('known_hosts', '0644'),
            entry('ca.pem', '0644'),
          ],
          permissions: [
            { path: '/var/log/kolla/kacme', owner: 'kacme:kolla', perm: '2775' },
            { path: '/var/lib/kacme', owner: 'kacme:kacme', perm: '0700' },
          ],
        }),
      );
      await chmod(files, 0o755);
      const [store, logs] = [`${basename(podman.directory)}-store`, `${basename(podman.directory)}-logs`];
      onTestFinished(async () => {
        await podman.podman('volume', 'rm', '--force', store, logs);
      });
      const flags = [
        ...[
          '-v',
          `${files}:${CONFIG_FILES}:ro`,
          '-v',
          `${store}:/var/lib/kacme`,
          '-v',
          `${logs}:/var/log/kolla`,
        ],
        ...['-e', 'KOLLA_CONFIG_STRATEGY=COPY_ALWAYS'],
      ];
      return {
        lab,
        files,
        written: inside,
        container: { image, flags },
        operations: written.operations.listen as string,
      };
    }

    test('runs as the user of kolla-build.conf, in the group kolla, with the blocks of an override', async () => {
      const { stdout } = await podman.run({
        image,
        args: [
          'bash',
          '-c',
          'id; ls /footer-of-kacme; dpkg --status tzdata | head -1; stat -c "%U %a" /var/lib/kacme',
        ],
      });

      expect(stdout).toMatch(/uid=42498\(kacme\) gid=42498\(kacme\) groups=.*42400\(kolla\)/);
      expect(stdout).toContain('/footer-of-kacme');
      expect(stdout).toContain('Package: tzdata');
      expect(stdout).toContain('kacme 700');
    });

    test('is labelled as every image of Kolla', async () => {
      const { stdout } = await podman.podman('image', 'inspect', '--format', '{{json .Labels}}', image);

      expect(JSON.parse(stdout)).toMatchObject({ maintainer: 'the tests of kacme', name: 'kacme' });
    });

    test('bootstraps when KOLLA_BOOTSTRAP is set, even to nothing, then serves, is healthy, takes a changed configuration over and stops', async () => {
      const { lab, files, written, container, operations } = await kollaLab();
      const bootstrap = await podman.run({
        ...container,
        flags: [...container.flags, '-e', 'KOLLA_BOOTSTRAP='],
      });
      expect(bootstrap.status, bootstrap.stderr).toBe(0);
      expect(bootstrap.stdout).not.toContain('kacme is up');
      await Promise.all(lab.fleet.hosts.map(({ haproxy }) => haproxy.start()));

      const service = await podman.start({
        ...container,
        ready: (output) => output.includes('"msg":"kacme is up"'),
      });
      onTestFinished(() => service.stop());
      const readyz = `http://${operations}/readyz`;
      expect(await service.exec('healthcheck_curl', readyz)).toMatchObject({ status: 0 });
      await service.says('"msg":"bundle activated"');

      const check = () => service.exec('sudo', '-E', 'kolla_set_configs', '--check');
      expect(await check()).toMatchObject({ status: 0 });
      await writeFile(join(files, 'known_hosts'), '# changed\n');
      expect((await check()).status).toBe(1);

      const configure = async (configuration: object) => {
        await writeFile(join(files, 'kacme.yaml'), JSON.stringify(configuration));
        expect(await service.exec('sudo', '-E', 'kolla_set_configs')).toMatchObject({ status: 0 });
        service.signal('SIGHUP');
      };
      await configure({ ...written, log: { level: 'loud' } });
      await service.says('configuration refused; the old one stays in force');
      const site = { identifiers: ['site.test', 'more.test'], issuers: ['pebble'] };
      await configure({ ...written, certificates: { site } });
      await service.says('configuration taken over');
      await service.says('more.test');

      const log = await service.exec('cat', '/var/log/kolla/kacme/kacme.log');
      expect(log.stdout).toContain('"msg":"kacme is up"');
      expect(log.stdout.split('\n').filter((line) => line !== '' && !line.startsWith('{'))).toEqual([]);

      service.signal('SIGTERM');
      expect(await service.exited).toEqual({ code: 0, signal: null });
    }, 60_000);

    test('bootstraps, issues, reloads its files and stops with a read-only root file system, as docker/README.md says', async () => {
      const { lab, files, container, operations } = await kollaLab();
      const runCommand = join(files, '../run_command');
      await writeFile(runCommand, '');
      const flags = [
        ...container.flags,
        ...['--read-only', '--read-only-tmpfs=false', '--tmpfs', '/tmp', '--tmpfs', '/run'],
        ...['-v', '/etc/kacme', '-v', '/etc/kolla', '-v', `${runCommand}:/run_command`],
      ];
      const bootstrap = await podman.run({ ...container, flags: [...flags, '-e', 'KOLLA_BOOTSTRAP='] });
      expect(bootstrap.status, bootstrap.stderr).toBe(0);
      await Promise.all(lab.fleet.hosts.map(({ haproxy }) => haproxy.start()));

      const service = await podman.start({
        ...container,
        flags,
        ready: (output) => output.includes('"msg":"kacme is up"'),
      });
      onTestFinished(() => service.stop());
      await service.says('"msg":"bundle activated"');
      expect(await service.exec('touch', '/usr/here')).toMatchObject({ status: 1 });
      expect(await service.exec('healthcheck_curl', `http://${operations}/readyz`)).toMatchObject({
        status: 0,
      });
      for (const check of [[], ['--check']])
        expect(await service.exec('sudo', '-E', 'kolla_set_configs', ...check)).toMatchObject({ status: 0 });
      service.signal('SIGTERM');
      expect(await service.exited).toEqual({ code: 0, signal: null });
    }, 60_000);

    test('ends a bootstrap with the status of kacme, so that a failed one fails the deployment', async () => {
      const { container } = await kollaLab({ configuration: 'certificats: {}\n' });
      const { status, stderr } = await podman.run({
        ...container,
        flags: [...container.flags, '-e', 'KOLLA_BOOTSTRAP='],
      });

      expect(status).toBe(2);
      expect(stderr).toMatch(/kacme\.yaml:1:1: certificats/);
    });

    test('does not serve with a wrong configuration, and says on which line', async () => {
      const { container } = await kollaLab({ configuration: 'certificates: {}\ncertificats: {}\n' });
      // As a container that serves, and as the one that the role asks before it.
      for (const args of [[], ['bash', '-c', 'sudo -E kolla_set_configs && kacme config check']]) {
        const { status, stderr } = await podman.run({ ...container, args });
        expect(status).toBe(2);
        expect(stderr).toMatch(/kacme\.yaml:2:1: certificats/);
      }
    });

    test('does not serve when a file of config.json is missing', async () => {
      const { container, files } = await kollaLab();
      await run('rm', [join(files, 'known_hosts')]);
      const { status, stderr } = await podman.run(container);

      expect(status).toBe(1);
      expect(stderr).toMatch(/known_hosts/);
    });
  },
);
