import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoNetworks } from '../setup/containers.mjs';
import type { Outcome } from '../support/ansible.ts';
import { kollaHaproxyImage, kollaImage, kollaSshImage } from '../support/images.ts';
import { installInto, type KollaAnsible } from '../support/kolla-ansible.ts';
import { askForChallenge } from '../support/kolla-cloud.ts';
import { LIMIT, startController } from '../support/kolla-controller.ts';
import { startNetwork } from '../support/machines.ts';
import { startPebble } from '../support/pebble.ts';
import { startPodman } from '../support/podman.ts';

const { KOLLA_ANSIBLE_SRC: source = '' } = process.env;
const obstacle =
  (await whyNoNetworks()) ??
  (source === '' ? 'KOLLA_ANSIBLE_SRC names no checkout of kolla-ansible' : undefined);
const MINUTES = 60_000;

describe.skipIf(obstacle !== undefined)(
  `the role with Kolla Ansible itself${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    const cleanup: (() => Promise<unknown>)[] = [];
    let kolla: KollaAnsible;
    let virtual: readonly string[];

    beforeAll(async () => {
      const network = await startNetwork();
      cleanup.push(network.close);
      const machine = await network.addMachine();
      const [internal, external] = [network.freeAddress(), network.freeAddress()];
      virtual = [internal, external];
      for (const address of virtual) await machine.take(address);
      const names = { kolla_internal_fqdn: 'internal.cloud.test', kolla_external_fqdn: 'cloud.test' };
      const pebble = await startPebble({
        address: network.address,
        httpPort: 80,
        defaultAddress: external,
        reuseAuthorizations: 0,
      });
      cleanup.push(pebble.close);
      await pebble.setAddresses(names.kolla_internal_fqdn, [internal]);
      const podman = await startPodman();
      cleanup.push(podman.close);
      for (const image of [kollaHaproxyImage, kollaImage, kollaSshImage]) await image(podman);
      const controller = await startController(podman, machine);
      cleanup.push(controller.stop);
      await copyFile(pebble.caFile, join(controller.kolla, 'pebble-ca.pem'));
      const limit = { soft: LIMIT, hard: LIMIT };
      kolla = await installInto(controller, source, {
        ...names,
        kolla_internal_vip_address: internal,
        kolla_external_vip_address: external,
        kolla_enable_tls_internal: true,
        kolla_enable_tls_external: true,
        network_interface: 'eth0',
        kolla_container_engine: 'podman',
        kolla_base_distro: 'debian',
        // As the images of the tests are named.
        docker_registry: 'localhost',
        docker_namespace: 'kacme-lab',
        openstack_tag: 'latest',
        // What else is in the loadbalancer's role has no image here.
        enable_keepalived: false,
        enable_proxysql: false,
        // Their frontends are like keystone's, and each takes its time to render.
        enable_openstack_core: false,
        enable_keystone: true,
        enable_horizon: true,
        haproxy_max_connections: 500,
        haproxy_defaults_max_connections: 500,
        default_container_dimensions: { ulimits: { RLIMIT_NOFILE: limit, RLIMIT_NPROC: limit } },
        kacme_acme_directory: pebble.directoryUrl,
        kacme_acme_ca_file: '/etc/kolla/pebble-ca.pem',
        kacme_acme_contact: ['ops@cloud.test'],
        kacme_acme_terms_of_service_agreed: true,
        kacme_resolvers: [pebble.dns],
      });
    }, 10 * MINUTES);

    afterAll(async () => {
      for (let step = cleanup.pop(); step !== undefined; step = cleanup.pop()) await step();
    }, MINUTES);

    async function done(action: string, ...args: string[]): Promise<Outcome> {
      const outcome = await kolla.run(action, ...args);
      expect(outcome.status, `kolla-ansible ${action} ${args.join(' ')}: ${outcome.output}`).toBe(0);
      return outcome;
    }
    /** Of the play's recap. */
    const changed = ({ output }: Outcome) => Number(/^localhost +: .*\bchanged=(\d+)/m.exec(output)?.[1]);
    const startedAt = async (container: string) => {
      const format = '{{.State.Running}} {{.State.StartedAt}}';
      return (await kolla.exec('podman', 'inspect', '--format', format, container)).output;
    };

    test(
      'prechecks find nothing after prepare, whose second run changes nothing',
      async () => {
        await done('genconfig', '-p', 'prepare.yml');
        expect(changed(await done('genconfig', '-p', 'prepare.yml'))).toBe(0);
        await done('prechecks', '-p', 'kacme.yml');
      },
      5 * MINUTES,
    );

    test(
      'the loadbalancer that Kolla deploys starts, and leads challenges to kacme',
      async () => {
        await done('deploy', '--tags', 'loadbalancer');
        // Nobody answers there yet.
        for (const address of virtual)
          expect(await askForChallenge(address, 80)).toMatchObject({ status: 503 });
      },
      8 * MINUTES,
    );

    test(
      'a deployment in check mode goes through and starts nothing',
      async () => {
        await done('deploy', '-p', 'kacme.yml', '--check');
        expect((await kolla.exec('podman', 'ps', '--all', '--format', '{{.Names}}')).output).toBe(
          'haproxy\n',
        );
      },
      5 * MINUTES,
    );

    test(
      'a failed bootstrap fails the deployment with what kacme says, and kacme is not started',
      async () => {
        const wrong = JSON.stringify({ kacme_config_override: { certificats: {} } });
        const { status, output } = await kolla.run('deploy', '-p', 'kacme.yml', '-e', wrong);
        expect(status).toBe(2);
        expect(output).toMatch(/kacme\.yaml:\d+:1: certificats: unknown key/);
        expect((await kolla.exec('podman', 'ps', '--all', '--format', '{{.Names}}')).output).toBe(
          'haproxy\nkacme_ssh\n',
        );
      },
      5 * MINUTES,
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
      8 * MINUTES,
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
      10 * MINUTES,
    );

    test(
      'stop ends kacme and its sidecar, and nothing else',
      async () => {
        await done('stop', '-p', 'kacme.yml', '--yes-i-really-really-mean-it');
        expect((await kolla.exec('podman', 'ps', '--format', '{{.Names}}')).output).toBe('haproxy\n');
      },
      3 * MINUTES,
    );
  },
);
