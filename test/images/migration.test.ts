import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { whyNoNetworks } from '../setup/containers.mjs';
import { eventually } from '../support/eventually.ts';
import { servedFingerprint256 } from '../support/haproxy-cli.ts';
import { askForChallenge } from '../support/kolla-cloud.ts';
import {
  type CloudSide,
  type Controller,
  HTTPS_PORT,
  type KollaLab,
  startKollaLab,
  VERIFY_PORT,
} from '../support/kolla-lab.ts';
import { deployLego, digestOfLego, layChallenge, legoAccount } from '../support/kolla-lego.ts';
import { startTlsLoad } from '../support/tls-load.ts';

const obstacle = await whyNoNetworks();
const NAMES = ['ctl1', 'ctl2', 'ctl3'];
const LEGO = ['letsencrypt_lego', 'letsencrypt_webserver'];
/** What the verification frontend answers after each handshake. */
const DENIED = ['HTTP 403'];
const UNREACHABLE = {
  kacme_config_override: { issuers: { public: { proxy: 'http://127.0.0.1:9' } } },
};

describe.skipIf(obstacle !== undefined)(
  `a cloud whose certificates are lego's${obstacle === undefined ? '' : ` (${obstacle})`}`,
  () => {
    let lab: KollaLab;
    /** What lego has. */
    let leaves: { readonly external: string; readonly internal: string };
    let digest: string;

    beforeAll(async () => {
      lab = await startKollaLab({
        groups: { 'letsencrypt-lego': NAMES, 'letsencrypt-webserver': NAMES },
        globals: {
          kacme_integration: 'replace_lego',
          enable_letsencrypt: 'yes',
          // Kolla's own defaults.
          letsencrypt_managed_certs: 'internal,external',
          acme_client_servers: ['server lego {{ api_interface_address }}:{{ letsencrypt_webserver_port }}'],
        },
      });
      await play('loadbalancer.yml');
      await deployLego(lab);
      const [first] = lab.controllers;
      leaves = {
        external: await eventually('HAProxy is back', () => servedAt(lab.external)),
        internal: await servedAt(lab.internal),
      };
      digest = await digestOfLego(first);
    }, 400_000);

    afterAll(() => lab?.close(), 60_000);

    const play = async (playbook: string, action = 'deploy', ...args: string[]) => {
      const { status, output } = await lab.kolla.play(playbook, action, ...args);
      expect(status, output).toBe(0);
      return output;
    };
    const servedAt = ({ virtualAddress, name }: CloudSide) =>
      servedFingerprint256(virtualAddress, HTTPS_PORT, name);
    const orders = () =>
      [lab.external, lab.internal].map(({ ca }) => ca.output().split('POST /order-plz').length - 1);
    const kacme = (...args: string[]) => lab.controllers[0].engine('exec', 'kacme', 'kacme', ...args);
    const runs = async ({ container }: Controller) => {
      const states = await Promise.all(
        ['haproxy', ...LEGO, 'kacme_ssh', 'kacme'].map(
          async (name) => [name, await container(name)] as const,
        ),
      );
      return states.flatMap(([name, state]) => (state?.running ? [name] : []));
    };
    const loadOn = (controllers: readonly Controller[]) => {
      const sides = [lab.external, lab.internal];
      return startTlsLoad(
        sides.flatMap(({ name: servername, virtualAddress }) => [
          { address: virtualAddress, port: HTTPS_PORT, servername },
          ...controllers.map(({ address }) => ({ address, port: VERIFY_PORT, servername })),
        ]),
        { workers: 2, pauseMs: 50 },
      );
    };

    test('is taken over without an order or a failed handshake, with a controller down', {
      timeout: 600_000,
    }, async () => {
      const [first, second, third] = lab.controllers;
      await play('prepare.yml', 'config');
      expect(await play('kacme.yml', 'precheck')).toContain(
        'has external, internal. Go on with the playbook migrate',
      );
      await play('loadbalancer.yml');
      // Until the migration, challenges are answered by lego's web server on the host of kacme.
      await layChallenge(first, 'token', 'of lego');
      expect(await askForChallenge(lab.external.virtualAddress, 80)).toMatchObject({
        status: 200,
        body: 'of lego',
      });

      const [before, workers] = [orders(), await Promise.all([first.worker(), second.worker()])];
      const load = loadOn([first, second]);
      onTestFinished(async () => void (await load.stop()));
      const failed = await lab.kolla.play('migrate.yml', 'deploy', '-e', JSON.stringify(UNREACHABLE));
      expect(failed.status).not.toBe(0);
      expect(failed.output).toMatch(
        /kacme adopt ended with status 1[\s\S]*the proxy http:\/\/127.0.0.1:9 cannot be used/,
      );
      expect(await runs(first)).toEqual(['haproxy', ...LEGO, 'kacme_ssh']);

      await lab.takeDown(third);
      expect(await play('migrate.yml')).toContain('WARNING: ctl3 was not reached, and lego is still there');

      for (const controller of [first, second])
        expect(await runs(controller)).not.toContain('letsencrypt_lego');
      expect(await runs(first)).toEqual(['haproxy', 'kacme_ssh', 'kacme']);
      const counts = await load.stop();
      expect(Object.keys(counts.reasons)).toEqual(DENIED);
      expect(Object.keys(counts.leaves).sort()).toEqual(Object.values(leaves).sort());
      expect(await Promise.all([first.worker(), second.worker()])).toEqual(workers);
      expect(orders()).toEqual(before);
      expect(await digestOfLego(first)).toBe(digest);
    });

    test('has lego no more on a controller that comes back, once the playbook has run again', {
      timeout: 200_000,
    }, async () => {
      const [first, , third] = lab.controllers;
      const before = orders();
      await lab.bringBack(third);
      expect(await runs(third)).toContain('letsencrypt_lego');
      await play('migrate.yml');
      expect(await runs(third)).toEqual(['haproxy', 'kacme_ssh']);
      await eventually('all is in sync', async () => (await kacme('status')).status === 0, {
        timeoutMs: 60_000,
      });
      expect(orders()).toEqual(before);
      expect(await servedFingerprint256(third.address, VERIFY_PORT, lab.external.name)).toBe(leaves.external);
      expect(await play('kacme.yml', 'precheck')).toContain(
        'WARNING: empty the inventory group [letsencrypt:children]',
      );
      expect(await runs(first)).toContain('kacme');
    });

    test("renews with lego's account from then on", { timeout: 120_000 }, async () => {
      const [first] = lab.controllers;
      const { status, stdout, stderr } = await kacme('renew', '--force');
      expect(status, stdout + stderr).toBe(0);
      for (const side of [lab.external, lab.internal])
        expect(Object.values(leaves)).not.toContain(await servedAt(side));
      const accounts = await kacme('account', 'show', '--json');
      for (const directory of ['external', 'internal'] as const)
        expect(accounts.stdout).toContain(await legoAccount(first, directory));
      expect(accounts.stdout).not.toContain('"orders": 0');
    });

    test('is given back with its volume as it was, and HAProxy goes on serving', {
      timeout: 120_000,
    }, async () => {
      const renewed = await servedAt(lab.external);
      const load = loadOn(lab.controllers);
      onTestFinished(async () => void (await load.stop()));
      await play('rollback.yml');
      expect(Object.keys((await load.stop()).reasons)).toEqual(DENIED);
      for (const controller of lab.controllers) {
        expect(await runs(controller)).toEqual(['haproxy']);
        expect(await digestOfLego(controller)).toBe(digest);
      }
      expect(await servedAt(lab.external)).toBe(renewed);
    });
  },
);
