import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Handshakes } from '../demo/handshakes.ts';
import { whyNoNetworks } from '../setup/containers.mjs';
import {
  type ComposeConfig,
  type ComposeLab,
  composeConfig,
  startComposeLab,
} from '../support/compose-lab.ts';
import { eventually } from '../support/eventually.ts';

const obstacle = await whyNoNetworks();
const repository = join(import.meta.dirname, '..', '..');
const PORTS = [8441, 8442, 8443];

describe.skipIf(obstacle !== undefined)(
  `the lab of docker/lab/compose.yaml${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let config: ComposeConfig;
    let lab: ComposeLab;
    const handshakes = new Handshakes();

    beforeAll(async () => {
      config = await composeConfig();
      lab = await startComposeLab(config);
    }, 400_000);

    afterAll(() => lab?.close(), 60_000);

    const kacme = (...args: string[]) =>
      lab.compose('exec', '-T', 'kacme', 'node', '/opt/kacme/dist/kacme.js', ...args);
    const served = async () => {
      const root = await lab.issuingRoot();
      const endpoints = PORTS.map((port) => ({ address: lab.address, port }));
      const { fingerprint256 } = await handshakes.sameLeaf(endpoints, ['cloud.test'], { root });
      return fingerprint256;
    };
    const renewed = (old: string | undefined, timeoutMs = 30_000) =>
      eventually(
        'every host presents a new certificate of the CA',
        async () => {
          const leaf = await served();
          return leaf !== old && leaf;
        },
        { timeoutMs },
      );

    test('names every base by its tag, and nothing by its latest', async () => {
      const files = Object.values(config.services).map(({ build }) =>
        build === undefined ? undefined : join(build.context, build.dockerfile),
      );
      expect(files).not.toContain(undefined);
      for (const file of new Set(files)) {
        const bases = (await readFile(file ?? '', 'utf8')).match(/^ARG (?:BUILD_)?BASE=.*$/gm) ?? [];
        expect(bases.length, file).toBeGreaterThan(0);
        for (const base of bases) expect(base).toMatch(/\/[a-z]+:[^:]+-slim$/);
      }
    });

    test('comes up with one command, and every host serves what the CA issued', async () => {
      const up = await lab.compose('up', '--detach', '--no-build');
      expect(up.status, up.stderr).toBe(0);

      await renewed(undefined, 60_000);
      await eventually('status says so, too', async () => (await kacme('status')).status === 0, {
        timeoutMs: 30_000,
      });
      expect((await fetch(`http://${lab.address}:8083/readyz`)).status).toBe(200);
    }, 180_000);

    test('renews by hand, and brings a host that was stopped what it missed', async () => {
      const old = await renewed(undefined);
      expect(await kacme('renew', '--force')).toMatchObject({ status: 0 });
      const leaf = await renewed(old);

      expect(await lab.compose('stop', 'haproxy-3', 'kacme-ssh-3')).toMatchObject({ status: 0 });
      const renewal = await kacme('renew', '--force');
      expect(renewal.status, renewal.stderr).toBe(3);
      expect(`${renewal.stdout}${renewal.stderr}`).toContain('haproxy-3');
      expect(await lab.compose('start', 'haproxy-3', 'kacme-ssh-3')).toMatchObject({ status: 0 });
      await renewed(leaf, 60_000);
    }, 180_000);

    test('is what the page says: each of its commands is one of the tests', async () => {
      const page = await readFile(join(repository, 'docker/README.md'), 'utf8');

      for (const command of [
        'up --build',
        'renew --force',
        'stop haproxy-3 kacme-ssh-3',
        'start haproxy-3 kacme-ssh-3',
      ])
        expect(page).toContain(command);
    });
  },
);
