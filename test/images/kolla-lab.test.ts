import { stat } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type Endpoint, Handshakes } from '../demo/handshakes.ts';
import { whyNoNetworks } from '../setup/containers.mjs';
import { eventually } from '../support/eventually.ts';
import { HAPROXY_UID, type KollaLab, startKollaLab, VERIFY_PORT } from '../support/kolla-lab.ts';
import type { TestContainer } from '../support/podman.ts';
import { startTlsLoad } from '../support/tls-load.ts';

const obstacle = await whyNoNetworks();

describe.skipIf(obstacle !== undefined).each([
  { root: 'a writable root file system', readOnly: false },
  { root: 'a read-only root file system', readOnly: true },
])(
  `a cloud of three controllers with $root${obstacle === undefined ? '' : ` (${obstacle})`}`,
  ({ readOnly }) => {
    let lab: KollaLab;
    let kacme: TestContainer;
    const handshakes = new Handshakes();
    let endpoints: readonly Endpoint[];

    beforeAll(async () => {
      lab = await startKollaLab({ readOnly });
      const own = lab.controllers.map(({ address }) => ({ address, port: VERIFY_PORT }));
      endpoints = [{ address: lab.virtualAddress, port: 443 }, ...own];
    }, 240_000);

    afterAll(() => lab?.close(), 60_000);

    const served = async (root: string | undefined, from = endpoints) => {
      const { fingerprint256 } = await handshakes.sameLeaf(from, [lab.name], { root });
      return fingerprint256;
    };
    /** Once all of them present one certificate of the CA that is not `old`. */
    const renewed = async (old: string | undefined, timeoutMs = 30_000) => {
      const root = await lab.pebble.issuingRoot();
      return eventually(
        'all present a new certificate of the CA',
        async () => {
          const leaf = await served(root);
          return leaf !== old && leaf;
        },
        { timeoutMs },
      );
    };

    test('is bootstrapped before and after HAProxy starts, and issues through the virtual address', async () => {
      const [first, second, third] = lab.controllers;
      await Promise.all(lab.controllers.map((controller) => controller.startSsh()));
      // As in a deployment that was begun without kacme: Kolla's own certificate for a day is there.
      await third.startHaproxy();
      const bootstrap = await lab.bootstrap();
      expect(bootstrap.status, bootstrap.stderr).toBe(0);
      const { mode, uid } = await stat(first.bundlePath);
      expect({ mode: (mode & 0o7777).toString(8), uid }).toEqual({ mode: '600', uid: HAPROXY_UID });
      await Promise.all([first.startHaproxy(), second.startHaproxy()]);
      await served(undefined, endpoints.slice(0, 1));

      kacme = await lab.serve();
      await renewed(undefined);
      expect(await kacme.exec('kacme', 'status')).toMatchObject({ status: 0 });
      expect((await fetch(`${lab.operationsUrl}/readyz`)).status).toBe(200);
    }, 120_000);

    test('renews under load without one failed request, with the same HAProxy processes', async () => {
      const old = await renewed(undefined);
      const workers = () => Promise.all(lab.controllers.map((controller) => controller.worker()));
      const before = await workers();
      const load = startTlsLoad(
        endpoints.map((endpoint) => ({ ...endpoint, servername: lab.name })),
        { workers: 6 },
      );
      onTestFinished(async () => void (await load.stop()));
      await eventually('the load has begun', () => load.counts().ok > 20);

      expect(await kacme.exec('kacme', 'renew', '--force')).toMatchObject({ status: 0 });
      const leaf = await renewed(old);
      await eventually('the load sees the new one', () => (load.counts().leaves[leaf] ?? 0) > 20);

      const { failed, reasons, leaves } = await load.stop();
      expect({ failed, reasons }).toEqual({ failed: 0, reasons: {} });
      expect(Object.keys(leaves).sort()).toEqual([old, leaf].sort());
      expect(await workers()).toEqual(before);
    }, 90_000);

    test('brings a controller that was away during a renewal its certificate within 30 s', async () => {
      const old = await renewed(undefined);
      const [, , third] = lab.controllers;
      await third.stop();

      const renewal = await kacme.exec('kacme', 'renew', '--force');
      expect(renewal.status, renewal.stderr).toBe(3);
      expect(`${renewal.stdout}${renewal.stderr}`).toContain(third.address);
      expect((await kacme.exec('kacme', 'status')).status).toBe(3);

      await Promise.all([third.startSsh(), third.startHaproxy()]);
      await renewed(old, 30_000);
    }, 120_000);

    test('goes on after its container was killed in the middle of an order, without a second one', async () => {
      const old = await renewed(undefined);
      const orders = () => lab.pebble.output().split('POST /order-plz').length - 1;
      const [before, said] = [orders(), lab.pebble.output().length];
      const asked = kacme.exec('kacme', 'renew', '--force');
      await eventually(
        'the CA is asked to finalize',
        () => lab.pebble.output().slice(said).includes('POST /finalize-order/'),
        { timeoutMs: 30_000 },
      );
      await kacme.kill();
      await asked;

      kacme = await lab.serve();
      await renewed(old);
      expect(orders() - before).toBe(1);
    }, 90_000);

    test('stops with status 0 on SIGTERM', async () => {
      kacme.signal('SIGTERM');

      expect(await kacme.exited).toEqual({ code: 0, signal: null });
    });
  },
);
