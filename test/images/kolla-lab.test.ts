import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Handshakes } from '../demo/handshakes.ts';
import { whyNoNetworks } from '../setup/containers.mjs';
import {
  type CloudSide,
  HTTPS_PORT,
  type KollaLab,
  startKollaLab,
  VERIFY_PORT,
} from '../support/kolla-lab.ts';

const obstacle = await whyNoNetworks();

describe.skipIf(obstacle !== undefined)(
  `a cloud of three controllers, deployed by the playbooks${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let lab: KollaLab;
    const handshakes = new Handshakes();

    beforeAll(async () => {
      lab = await startKollaLab();
    }, 240_000);

    afterAll(() => lab?.close(), 60_000);

    const play = async (playbooks: string | readonly string[], action = 'deploy', ...args: string[]) => {
      const { status, output } = await lab.kolla.play(playbooks, action, ...args);
      expect(status, output).toBe(0);
      return output;
    };
    /** What one of the two names is answered with at its virtual address and by every controller. */
    const served = async (side: CloudSide, root: string | undefined) => {
      const endpoints = [
        { address: side.virtualAddress, port: HTTPS_PORT },
        ...lab.controllers.map(({ address }) => ({ address, port: VERIFY_PORT })),
      ];
      const { fingerprint256 } = await handshakes.sameLeaf(endpoints, [side.name], { root });
      return fingerprint256;
    };

    test('is deployed in the documented order', { timeout: 240_000 }, async () => {
      await play('prepare.yml', 'config');
      await play('kacme.yml', 'prechecks');
      await play('loadbalancer.yml');
      await play('kacme.yml');
      for (const side of [lab.external, lab.internal]) await served(side, await side.ca.issuingRoot());
    });
  },
);
