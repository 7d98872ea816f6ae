import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { BASE_IMAGES, whyNoContainers } from '../setup/containers.mjs';
import { plainImage } from '../support/images.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { startPodman, type TestPodman } from '../support/podman.ts';

const run = promisify(execFile);
const repository = join(import.meta.dirname, '..', '..');
/** As docker/README.md runs it. */
const HARDENED = [
  '--read-only',
  '--read-only-tmpfs=false',
  '--cap-drop=all',
  '--security-opt=no-new-privileges',
];

const obstacle = await whyNoContainers();

describe.skipIf(obstacle !== undefined)(
  `the plain image${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let podman: TestPodman;
    let image: string;

    beforeAll(async () => {
      podman = await startPodman();
      image = await plainImage(podman);
    }, 180_000);

    afterAll(() => podman?.close(), 60_000);

    const runNode = async (script: string) => {
      const { stdout } = await podman.run({
        image,
        flags: ['--entrypoint', 'node'],
        args: ['--eval', script],
      });
      return stdout;
    };

    test('takes at most 80 MB more than its base', async () => {
      const added = (await podman.size(image)) - (await podman.size(BASE_IMAGES.nodeOnly));

      expect(added).toBeGreaterThan(1e6);
      expect(added).toBeLessThan(80e6);
    });

    test('says what it is, runs as nobody in particular, and keeps its store on a volume', async () => {
      const { stdout } = await podman.podman('image', 'inspect', image);
      const { Config, Healthcheck } = JSON.parse(stdout)[0];

      expect(Config.Labels).toMatchObject({
        'org.opencontainers.image.title': 'kacme',
        'org.opencontainers.image.version': '1.2.3',
        'org.opencontainers.image.revision': 'abc',
        'org.opencontainers.image.created': '2026-01-02T03:04:05Z',
        'org.opencontainers.image.source': 'https://git.example.org/kacme',
      });
      expect(Config.User).toBe('65532:65532');
      expect(Config.Volumes).toEqual({ '/var/lib/kacme': {} });
      expect(Config.StopSignal).toMatch(/^(?:SIGTERM|15)$/);
      expect(Healthcheck.Test[0]).toBe('CMD');
    });

    test('lists every runtime dependency in its SBOM', async () => {
      const { dependencies } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8'));
      const sbom = JSON.parse(
        await runNode(`process.stdout.write(fs.readFileSync('/opt/kacme/sbom.cdx.json', 'utf8'))`),
      );

      expect(sbom.bomFormat).toBe('CycloneDX');
      const components = sbom.components as { name: string; version: string }[];
      const listed = Object.fromEntries(components.map(({ name, version }) => [name, version]));
      expect(listed).toMatchObject(dependencies);
      expect(listed).not.toHaveProperty('vitest');
    });

    test('needs no shell: its base has none', async () => {
      const shell = await podman.run({
        image,
        flags: ['--entrypoint', '/bin/sh'],
        args: ['-c', 'true'],
      });
      const help = await podman.run({ image, flags: HARDENED, args: ['--help'] });

      expect(shell.status).toBe(127);
      expect(help).toMatchObject({ status: 0, stdout: expect.stringContaining('serve') });
    });

    test('holds nothing that its user could change', async () => {
      const writable = await runNode(`
      const mine = fs.readdirSync('/opt', { recursive: true }).map((name) => '/opt/' + name)
        .filter((path) => { try { fs.accessSync(path, fs.constants.W_OK); return true; } catch { return false; } });
      console.log(JSON.stringify(mine))`);

      expect(JSON.parse(writable)).toEqual([]);
    });

    test('refuses a wrong configuration with its line and status 2', async () => {
      const path = join(podman.directory, 'wrong.yaml');
      await writeFile(path, 'certificates: {}\ncertificats: {}\n');
      const { status, stderr } = await podman.run({
        image,
        flags: [...HARDENED, '-v', `${path}:/etc/kacme/kacme.yaml:ro`],
      });

      expect(status).toBe(2);
      expect(stderr).toMatch(/kacme\.yaml:2:1: certificats/);
    });

    test('is unhealthy, and says why, where nothing answers', async () => {
      const { status, stdout } = await podman.run({
        image,
        flags: [...HARDENED, '--entrypoint', 'node', '-e', 'KACME_HEALTH_URL=http://127.0.0.1:9/readyz'],
        args: ['/opt/kacme/healthcheck.mjs'],
      });

      expect({ status, stdout }).toEqual({ status: 1, stdout: expect.stringMatching(/readyz: .+/) });
    });

    test('bootstraps, serves, is healthy, takes a changed configuration over, and stops on SIGTERM', async () => {
      const lab = await labKacme();
      onTestFinished(() => lab.close());
      const { configPath, overlay } = lab.kacme;
      const own = dirname(configPath);
      await run('chown', ['-R', '65532:65532', own]);
      const { operations } = parse(await readFile(configPath, 'utf8'));
      const container = {
        image,
        flags: [
          ...HARDENED,
          ...['-v', `${own}:${own}`],
          ...[lab.fleet.knownHostsFile, lab.pebble.caFile].flatMap((path) => ['-v', `${path}:${path}:ro`]),
          ...['-e', `KACME_HEALTH_URL=http://${operations.listen}/readyz`],
        ],
      };
      const config = ['--config', configPath, '--config', join(own, 'overlay.yaml')];

      const bootstrap = await podman.run({ ...container, args: ['bootstrap', ...config] });
      expect(bootstrap).toMatchObject({ status: 0 });
      await Promise.all(lab.fleet.hosts.map(({ haproxy }) => haproxy.start()));
      const selfSigned = await lab.served();

      const service = await podman.start({
        ...container,
        args: ['serve', ...config],
        ready: (output) => output.includes('"msg":"kacme is up"'),
      });
      onTestFinished(() => service.stop());
      const { certificates } = await lab.kacme.settled(20_000);
      expect(certificates[0]).toMatchObject({ issuer: 'pebble', state: 'valid' });
      expect(await lab.served()).not.toEqual(selfSigned);
      expect(await service.healthcheck()).toMatchObject({ status: 0 });

      await overlay({ log: { level: 'loud' } });
      service.signal('SIGHUP');
      await service.says('configuration refused; the old one stays in force');
      await overlay({ certificates: { site: { identifiers: ['site.test', 'more.test'] } } });
      service.signal('SIGHUP');
      await service.says('configuration taken over');
      await service.says('more.test');

      service.signal('SIGTERM');
      expect(await service.exited).toEqual({ code: 0, signal: null });
    }, 60_000);
  },
);
