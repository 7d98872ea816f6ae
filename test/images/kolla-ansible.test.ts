import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Outcome } from '../support/ansible.ts';
import { askForChallenge } from '../support/kolla-cloud.ts';
import { REGISTRY } from '../support/kolla-controller.ts';
import { type KollaHost, startKollaHost, whyNoKolla } from '../support/kolla-host.ts';
import { startRegistry } from '../support/registry.ts';

const { obstacle, source, engine } = await whyNoKolla();
const MINUTE_MS = 60_000;
/** For what takes a few minutes. */
const HANGING_MS = 25 * MINUTE_MS;

describe.skipIf(obstacle !== undefined)(
  `the role with Kolla Ansible itself${obstacle === undefined ? ` and ${engine}` : ` (${obstacle})`}`,
  () => {
    let host: KollaHost;

    beforeAll(async () => {
      host = await startKollaHost({ source, engine });
    }, HANGING_MS);

    afterAll(() => host?.close(), 5 * MINUTE_MS);

    async function done(action: string, ...args: string[]): Promise<Outcome> {
      const outcome = await host.kolla.run(action, ...args);
      expect(outcome.status, `kolla-ansible ${action} ${args.join(' ')}: ${outcome.output}`).toBe(0);
      return outcome;
    }
    /** Of the play's recap. */
    const changed = ({ output }: Outcome) => Number(/^localhost +: .*\bchanged=(\d+)/m.exec(output)?.[1]);
    const startedAt = (container: string) =>
      host.run('inspect', '--format', '{{.State.Running}} {{.State.StartedAt}}', container);

    test(
      'prechecks find nothing after prepare, whose second run changes nothing',
      async () => {
        await done('genconfig', '-p', 'prepare.yml');
        expect(changed(await done('genconfig', '-p', 'prepare.yml'))).toBe(0);
        await done('prechecks', '-p', 'kacme.yml');
      },
      HANGING_MS,
    );

    test(
      'pull brings both images from the registry of the cloud, and says which one it does not have',
      async () => {
        const registry = await startRegistry({
          listen: REGISTRY,
          enter: host.machine.enter,
          directory: join(host.scratch, 'registry'),
        });
        onTestFinished(() => registry.stop());
        const images = ['kacme', 'kacme-ssh'].map((name) => `${REGISTRY}/kacme-lab/${name}:pulled`);
        const rootfs = join(host.scratch, 'empty.tar');
        await writeFile(rootfs, Buffer.alloc(10_240));
        for (const image of images) {
          await host.run('import', rootfs, image);
          await host.run('push', image);
          await host.run('rmi', image);
        }
        const pull = ['pull', '-p', 'kacme.yml', '-e', `docker_registry=${REGISTRY}`] as const;
        await done(...pull, '-e', 'openstack_tag=pulled');
        for (const image of images) await host.run('image', 'inspect', image);

        const once = ['-e', 'service_images_pull_retries=1', '-e', 'service_images_pull_delay=0'];
        const { status, output } = await host.kolla.run(...pull, '-e', 'openstack_tag=missing', ...once);
        expect(status).toBe(2);
        expect(output).toContain(`${REGISTRY}/kacme-lab/kacme:missing`);
      },
      HANGING_MS,
    );

    test(
      'the loadbalancer that Kolla deploys starts, and leads challenges to kacme',
      async () => {
        await done('deploy', '--tags', 'loadbalancer');
        // Nobody answers there yet.
        for (const address of [host.internalVip, host.externalVip])
          expect(await askForChallenge(address, 80)).toMatchObject({ status: 503 });
      },
      HANGING_MS,
    );

    test(
      'a deployment in check mode goes through and starts nothing',
      async () => {
        await done('deploy', '-p', 'kacme.yml', '--check');
        expect(await host.containers('--all')).toEqual(['haproxy']);
      },
      HANGING_MS,
    );

    test(
      'a failed bootstrap fails the deployment with what kacme says, and kacme is not started',
      async () => {
        const wrong = JSON.stringify({ kacme_config_override: { certificats: {} } });
        const { status, output } = await host.kolla.run('deploy', '-p', 'kacme.yml', '-e', wrong);
        expect(status).toBe(2);
        expect(output).toMatch(/kacme\.yaml:\d+:1: certificats: unknown key/);
        expect(await host.containers('--all')).toEqual(['haproxy', 'kacme_ssh']);
      },
      HANGING_MS,
    );

    test(
      'a deployment ends with certificates of the CA, and its second run changes and restarts nothing',
      async () => {
        await done('deploy', '-p', 'kacme.yml');
        const { output } = await done('check', '-p', 'kacme.yml');
        expect(output.match(/localhost +(?:external|internal) +in sync/g)).toHaveLength(2);
        const before = await startedAt('kacme');
        expect(changed(await done('deploy', '-p', 'kacme.yml'))).toBe(0);
        expect(await startedAt('kacme')).toBe(before);
        await done('deploy', '-p', 'kacme.yml', '-e', 'kacme_action=bootstrap');
      },
      HANGING_MS,
    );

    test(
      'a changed configuration of HAProxy is reloaded, and the deployment after it restarts nothing',
      async () => {
        const before = await startedAt('haproxy');
        const changed = ['-e', 'haproxy_client_timeout=77s'];
        await done('genconfig', '--tags', 'loadbalancer', ...changed);
        expect((await done('deploy', '-p', 'reload.yml', ...changed)).output).not.toContain('WARNING:');
        await done('deploy', '--tags', 'loadbalancer', ...changed);
        expect(await startedAt('haproxy')).toBe(before);
      },
      HANGING_MS,
    );

    test(
      'stop ends kacme and its sidecar, and nothing else',
      async () => {
        await done('stop', '-p', 'kacme.yml', '--yes-i-really-really-mean-it');
        expect(await host.containers()).toEqual(['haproxy']);
      },
      HANGING_MS,
    );
  },
);
