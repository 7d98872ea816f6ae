import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Outcome } from '../support/ansible.ts';
import { eventually } from '../support/eventually.ts';
import { servedFingerprint256 } from '../support/haproxy-cli.ts';
import { kollaLegoImage } from '../support/images.ts';
import { type KollaHost, NAMES, startKollaHost, whyNoKolla } from '../support/kolla-host.ts';
import { HTTPS_PORT } from '../support/kolla-lab.ts';
import { digestOfLego, installLegoPems, obtainWithLego } from '../support/kolla-lego.ts';

const { obstacle, source, engine } = await whyNoKolla();
const MINUTE_MS = 60_000;
/** For what takes a few minutes. */
const HANGING_MS = 25 * MINUTE_MS;
const STAND_IN = 'localhost/kacme-lab/lego-stand-in:latest';
const LEGO = ['letsencrypt_lego', 'letsencrypt_webserver'];

describe.skipIf(obstacle !== undefined)(
  `the migration with Kolla Ansible itself${obstacle === undefined ? ` and ${engine}` : ` (${obstacle})`}`,
  () => {
    let host: KollaHost;
    /** What lego has. */
    let leaves: readonly string[];
    let digest: string;

    beforeAll(async () => {
      host = await startKollaHost({
        source,
        engine,
        images: [kollaLegoImage],
        globals: ({ directoryUrl }) => ({
          kacme_integration: 'replace_lego',
          enable_letsencrypt: 'yes',
          letsencrypt_email: 'ops@example.org',
          letsencrypt_external_cert_server: directoryUrl,
          letsencrypt_internal_cert_server: directoryUrl,
          haproxy_ssh_image_full: STAND_IN,
          letsencrypt_lego_image_full: STAND_IN,
          letsencrypt_webserver_image_full: STAND_IN,
        }),
      });
    }, HANGING_MS);

    afterAll(() => host?.close(), 5 * MINUTE_MS);

    async function done(action: string, ...args: string[]): Promise<Outcome> {
      const outcome = await host.kolla.run(action, ...args);
      expect(outcome.status, `kolla-ansible ${action} ${args.join(' ')}: ${outcome.output}`).toBe(0);
      return outcome;
    }
    const served = () =>
      Promise.all([
        servedFingerprint256(host.externalVip, HTTPS_PORT, NAMES.external),
        servedFingerprint256(host.internalVip, HTTPS_PORT, NAMES.internal),
      ]);
    const orders = () => host.ca.output().split('POST /order-plz').length - 1;
    const units = async () => (await host.kolla.exec('ls', '/etc/systemd/system')).output.match(/kolla-\S+/g);
    const unitOf = (container: string) => `kolla-${container}-container.service`;

    test(
      'begins with the lego that Kolla deploys, whose challenges Kolla leads to it',
      async () => {
        await done('deploy', '--tags', 'loadbalancer,letsencrypt');
        expect(await host.containers()).toEqual(['haproxy', 'haproxy_ssh', ...LEGO]);
        const sides = {
          external: { name: NAMES.external, ca: host.ca },
          internal: { name: NAMES.internal, ca: host.ca },
        };
        await obtainWithLego(sides, host);
        await installLegoPems(sides, host);
        await host.run('restart', '--time', '1', 'haproxy');
        leaves = await eventually('HAProxy is back', served);
        digest = await digestOfLego(host);
      },
      HANGING_MS,
    );

    test(
      'migrate takes over what lego has without an order, and its containers and units are gone',
      async () => {
        await done('genconfig', '-p', 'prepare.yml');
        expect((await done('prechecks', '-p', 'kacme.yml')).output).toContain(
          'has external, internal. Go on with the playbook migrate',
        );
        await done('deploy', '--tags', 'loadbalancer');
        const before = orders();
        await done('deploy', '-p', 'migrate.yml');
        const containers = ['haproxy', 'haproxy_ssh', 'kacme', 'kacme_ssh'];
        expect(await host.containers('--all')).toEqual(containers);
        expect(await units()).toEqual(containers.map(unitOf));
        await eventually('all is in sync', () => host.run('exec', 'kacme', 'kacme', 'status'), {
          timeoutMs: MINUTE_MS,
        });
        expect(orders()).toBe(before);
        expect(await served()).toEqual(leaves);
        expect(await digestOfLego(host)).toBe(digest);
      },
      HANGING_MS,
    );

    test(
      'with the groups of lego empty nothing is left to say or to change, and a renewal passes',
      async () => {
        await host.kolla.edit('inventory', (text) =>
          text.replace('[letsencrypt:children]\nloadbalancer\n', '[letsencrypt:children]\n'),
        );
        expect((await done('prechecks', '-p', 'kacme.yml')).output).not.toMatch(/(?:NOTE|WARNING): /);
        const { output } = await done('deploy', '-p', 'kacme.yml');
        expect(output).toMatch(/^localhost +: .*\bchanged=0 /m);
        await done('deploy', '--tags', 'letsencrypt');
        expect(await host.containers('--all')).not.toContain('letsencrypt_lego');
        await host.run('exec', 'kacme', 'kacme', 'renew', '--force');
        for (const leaf of await served()) expect(leaves).not.toContain(leaf);
      },
      HANGING_MS,
    );

    test(
      'rollback takes kacme away, and Kolla brings lego back with its volume as it was',
      async () => {
        const renewed = await served();
        await done('deploy', '-p', 'rollback.yml');
        expect(await host.containers('--all')).toEqual(['haproxy', 'haproxy_ssh']);
        expect(await units()).toEqual(['haproxy', 'haproxy_ssh'].map(unitOf));
        await host.kolla.edit('inventory', (text) =>
          text.replace('[letsencrypt:children]\n', '[letsencrypt:children]\nloadbalancer\n'),
        );
        await done('deploy', '--tags', 'loadbalancer,letsencrypt');
        expect(await host.containers()).toEqual(['haproxy', 'haproxy_ssh', ...LEGO]);
        expect(await digestOfLego(host)).toBe(digest);
        expect(await eventually('HAProxy is back', served)).toEqual(renewed);
      },
      HANGING_MS,
    );
  },
);
