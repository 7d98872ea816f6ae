import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { whyNoContainers } from '../setup/containers.mjs';
import { kollaImageFrom } from '../support/kolla-source.ts';
import { startPodman, type TestPodman } from '../support/podman.ts';

const { KOLLA_SRC: source = '' } = process.env;
const obstacle =
  (await whyNoContainers()) ?? (source === '' ? 'KOLLA_SRC names no checkout of kolla' : undefined);
const CONFIG_FILES = '/var/lib/kolla/config_files';

describe.skipIf(obstacle !== undefined)(
  `the Kolla image with kolla itself${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let podman: TestPodman;
    let image: string;

    beforeAll(async () => {
      podman = await startPodman();
      image = await kollaImageFrom(source, podman);
    }, 600_000);

    afterAll(() => podman?.close(), 60_000);

    /** What config.json lists, with kacme's configuration. */
    async function container(configuration: string) {
      const files = join(podman.directory, 'files');
      await mkdir(files, { recursive: true });
      await writeFile(join(files, 'kacme.yaml'), configuration);
      const entry = { dest: '/etc/kacme/kacme.yaml', owner: 'kacme', perm: '0600' };
      await writeFile(
        join(files, 'config.json'),
        JSON.stringify({
          command: 'kacme serve',
          config_files: [{ source: `${CONFIG_FILES}/kacme.yaml`, ...entry }],
          permissions: [{ path: '/var/lib/kacme', owner: 'kacme:kacme', perm: '0700', recurse: true }],
        }),
      );
      const flags = ['-v', `${files}:${CONFIG_FILES}:ro`, '-e', 'KOLLA_CONFIG_STRATEGY=COPY_ALWAYS'];
      return { image, flags };
    }

    const NOTHING = 'issuers: {}\ncertificates: {}\npools: {}\ndeployments: []\n';

    test('bootstraps and ends with the status of kacme', async () => {
      const good = await container(NOTHING);
      const done = await podman.run({ ...good, flags: [...good.flags, '-e', 'KOLLA_BOOTSTRAP='] });
      expect(done.status, done.stderr).toBe(0);

      const wrong = await container(`${NOTHING}certificats: {}\n`);
      const failed = await podman.run({ ...wrong, flags: [...wrong.flags, '-e', 'KOLLA_BOOTSTRAP='] });
      expect(failed.status).toBe(2);
      expect(failed.stderr).toMatch(/kacme\.yaml:5:1: certificats/);
    }, 60_000);

    test('serves, is unchanged for kolla_set_configs --check, and stops on SIGTERM', async () => {
      const service = await podman.start({
        ...(await container(NOTHING)),
        ready: (output) => output.includes('"msg":"kacme is up"'),
      });
      onTestFinished(() => service.stop());
      expect(await service.exec('sudo', '-E', 'kolla_set_configs', '--check')).toMatchObject({ status: 0 });
      service.signal('SIGTERM');

      expect(await service.exited).toEqual({ code: 0, signal: null });
    }, 60_000);
  },
);
