import { mkdir, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Handshakes } from '../demo/handshakes.ts';
import { whyNoNetworks } from '../setup/containers.mjs';
import { eventually } from '../support/eventually.ts';
import { intruder } from '../support/intruder.ts';
import {
  type CloudSide,
  HAPROXY_UID,
  HTTP_PORT,
  HTTPS_PORT,
  type KollaLab,
  SSH_PORT,
  startKollaLab,
  VERIFY_PORT,
} from '../support/kolla-lab.ts';
import { selfSigned } from '../support/pem.ts';
import { startTlsLoad } from '../support/tls-load.ts';

const obstacle = await whyNoNetworks();
const DEPLOYMENT = { timeout: 420_000 };

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
    const playFails = async (playbook: string, ...args: string[]) => {
      const { status, output } = await lab.kolla.play(playbook, 'deploy', ...args);
      expect(status, output).not.toBe(0);
      return output;
    };
    const kacme = (...args: string[]) => lab.controllers[0].engine('exec', 'kacme', 'kacme', ...args);
    const everywhere = <T>(ask: (controller: KollaLab['controllers'][number]) => Promise<T>) =>
      Promise.all(lab.controllers.map(ask));
    const containers = () =>
      everywhere(({ container }) => Promise.all(['haproxy', 'kacme_ssh', 'kacme'].map(container)));
    const workers = () => everywhere((controller) => controller.worker());

    /** Where a name is served: at its virtual address, and by every controller. */
    const endpointsOf = ({ virtualAddress, name: servername }: CloudSide) => [
      { address: virtualAddress, port: HTTPS_PORT, servername },
      ...lab.controllers.map(({ address }) => ({ address, port: VERIFY_PORT, servername, status: 403 })),
    ];
    const served = async (side: CloudSide) => {
      const root = await side.ca.issuingRoot();
      const { fingerprint256 } = await handshakes.sameLeaf(endpointsOf(side), [side.name], { root });
      return fingerprint256;
    };
    const bothServed = async () => [await served(lab.external), await served(lab.internal)] as const;
    /** Once every endpoint presents one certificate of its CA that is none of `old`. */
    const renewed = (old: readonly string[]) =>
      eventually(
        'all present new certificates of both CAs',
        async () => {
          const leaves = await bothServed();
          return leaves.every((leaf) => !old.includes(leaf)) && leaves;
        },
        { timeoutMs: 60_000 },
      );
    /** Users of all endpoints, with a new connection for every request. */
    const startLoad = async () => {
      const load = startTlsLoad([lab.external, lab.internal].flatMap(endpointsOf), { workers: 6 });
      onTestFinished(async () => void (await load.stop()));
      await eventually('the load has begun', () => load.counts().ok > 40);
      return load;
    };

    test('is deployed in the documented order; a step that failed is run again', DEPLOYMENT, async () => {
      const { kolla, internal, external } = lab;
      const keys = () =>
        Promise.all([
          kolla.read('ctl1', 'kacme/id_ed25519'),
          ...lab.controllers.map(({ name }) => kolla.read(name, 'kacme_ssh/ssh_host_ed25519_key')),
        ]);
      const trust = join(kolla.path, 'etc/cloud-ca.pem');
      await writeFile(trust, await internal.ca.issuingRoot());
      const keystone = ['-e', `openstack_cacert=${trust}`];

      // One controller is of before: Kolla brings HAProxy the operator's own PEMs there.
      const own = selfSigned(external.name);
      const given = join(kolla.path, 'hosts/ctl1/haproxy');
      await mkdir(given, { recursive: true });
      await writeFile(join(given, 'haproxy.pem'), own.bundlePem);
      await writeFile(join(given, 'haproxy-internal.pem'), selfSigned(internal.name).bundlePem);
      await play('loadbalancer.yml', 'deploy', '--limit', 'ctl1');

      await play('prepare.yml', 'config');
      await play('kacme.yml', 'prechecks');
      // The third controller has no HAProxy yet, as after a failure there.
      await play('loadbalancer.yml', 'deploy', '--limit', 'ctl1,ctl2');
      const [atVirtualAddress, , ofSecond] = endpointsOf(external);
      if (atVirtualAddress === undefined || ofSecond === undefined) throw new Error('there are four');
      const untrusted = [[external.name], { root: undefined }] as const;
      const kept = await handshakes.sameLeaf([atVirtualAddress], ...untrusted);
      expect(kept.fingerprint256).toBe(own.fingerprint256);
      await handshakes.sameLeaf([ofSecond], ...untrusted);
      expect(await playFails('keystone.yml', ...keystone)).toContain('CERTIFICATE_VERIFY_FAILED');

      await external.ca.stop();
      const failed = await playFails('kacme.yml', '-e', 'kacme_wait_trusted=5');
      expect(failed).toContain('Not every certificate is one of the CA');
      expect(failed).toContain(external.ca.directoryUrl);
      const before = await keys();
      const bundle = join(lab.controllers[2].volume('letsencrypt_certificates'), 'haproxy.pem');
      const { mode, uid } = await stat(bundle);
      expect({ mode: (mode & 0o7777).toString(8), uid }).toEqual({ mode: '600', uid: HAPROXY_UID });

      await external.ca.start();
      await play(['loadbalancer.yml', 'kacme.yml']);
      await bothServed();
      expect(await keys()).toEqual(before);
      expect((await kolla.actions('ctl1')).map(({ name }) => name)).toEqual([
        'haproxy',
        'haproxy',
        'kacme_ssh',
        'bootstrap_kacme',
        'kacme',
      ]);
      expect((await fetch(`${lab.operationsUrl}/readyz`)).status).toBe(200);

      const [containersBefore, actionsBefore] = [await containers(), await kolla.actions('ctl1')];
      await play('keystone.yml', 'deploy', ...keystone);
      expect(await containers()).toEqual(containersBefore);
      expect(await kolla.actions('ctl1')).toEqual(actionsBefore);
    });

    test('leads challenges to kacme and everything else to https', async () => {
      for (const { virtualAddress } of [lab.external, lab.internal]) {
        // kacme knows no such token; who does not ask kacme is redirected.
        expect(await ask(virtualAddress, '/.well-known/acme-challenge/token')).toMatchObject({ status: 404 });
        expect(await ask(virtualAddress, '/auth/login')).toEqual({
          status: 301,
          location: expect.stringMatching(/^https:/),
        });
      }
    });

    test('lets the key of kacme in from the host of kacme alone, to the sockets of HAProxy and nothing else', async () => {
      const [first, second] = lab.controllers;
      const privateKey = await lab.kolla.read(first.name, 'kacme/id_ed25519');
      const target = { address: second.address, port: SSH_PORT, privateKey };
      await expect(intruder({ ...target, enter: [] })).rejects.toThrow(/authentication methods failed/);

      await using client = await intruder({ ...target, enter: first.enter });
      await new Promise<void>((resolve, reject) =>
        client.exec('touch /tmp/executed', (error, channel) =>
          error ? reject(error) : channel.resume().once('close', resolve).end(),
        ),
      );
      expect(await second.engine('exec', 'kacme_ssh', 'ls', '/tmp/executed')).toMatchObject({ status: 2 });
      const opening = (open: (done: (error: Error | undefined) => void) => unknown) =>
        new Promise<void>((resolve, reject) => open((error) => (error ? reject(error) : resolve())));
      await expect(
        opening((done) => client.forwardOut('127.0.0.1', 1, second.address, SSH_PORT, done)),
      ).rejects.toThrow(/open failed/i);
      await expect(
        opening((done) => client.openssh_forwardOutStreamLocal('/run/other.sock', done)),
      ).rejects.toThrow(/open failed/i);
      for (const socket of ['haproxy.sock', 'haproxy-master.sock'])
        await opening((done) =>
          client.openssh_forwardOutStreamLocal(`/var/lib/kolla/haproxy/${socket}`, done),
        );
    });

    test('renews under load without one failed request, with the same HAProxy processes', async () => {
      const [old, processes] = [await bothServed(), await workers()];
      const load = await startLoad();

      expect(await kacme('renew', '--force')).toMatchObject({ status: 0 });
      const leaves = await renewed(old);
      await eventually('the load sees the new ones', () =>
        leaves.every((leaf) => (load.counts().leaves[leaf] ?? 0) > 20),
      );

      const counts = await load.stop();
      expect(counts).toMatchObject({ failed: 0, reasons: {} });
      expect(Object.keys(counts.leaves).sort()).toEqual([...old, ...leaves].sort());
      expect(await workers()).toEqual(processes);
    });

    test(
      'takes a changed HAProxy configuration over under load; after that nothing is left to do',
      DEPLOYMENT,
      async () => {
        const services = join(lab.kolla.path, 'etc/config/haproxy/services.d');
        await mkdir(services, { recursive: true });
        await writeFile(
          join(services, 'mine.cfg'),
          'frontend mine\n    mode http\n    bind {{ api_interface_address }}:9000\n    http-request return status 200\n',
        );
        const [before, processes] = [await containers(), await workers()];
        await play('loadbalancer.yml', 'config');
        const load = await startLoad();

        await play('reload.yml');
        for (const { address } of lab.controllers)
          expect((await fetch(`http://${address}:9000/`)).status).toBe(200);

        expect(await load.stop()).toMatchObject({ failed: 0, reasons: {} });
        for (const [index, worker] of (await workers()).entries()) expect(worker).not.toBe(processes[index]);

        const output = await play(['prepare.yml', 'loadbalancer.yml', 'kacme.yml']);
        for (const { name } of lab.controllers)
          expect(output).toMatch(new RegExp(`^${name} .*changed=0 `, 'm'));
        expect(await containers()).toEqual(before);
      },
    );

    test(
      'is deployed without a dead controller, which gets its certificates when it returns',
      DEPLOYMENT,
      async () => {
        const [, , third] = lab.controllers;
        const [old, pinned] = [await bothServed(), await lab.kolla.read('ctl1', 'kacme/known_hosts')];
        await lab.takeDown(third);

        expect(await play('kacme.yml')).toContain('WARNING: ctl3 was not reached');
        expect(await lab.kolla.read('ctl1', 'kacme/known_hosts')).toBe(pinned);
        const renewal = await kacme('renew', '--force');
        expect(renewal.status, renewal.stderr).toBe(3);
        expect(`${renewal.stdout}${renewal.stderr}`).toContain('ctl3');

        await lab.bringBack(third);
        await renewed(old);
      },
    );

    test('renews when the virtual addresses have moved to another controller', async () => {
      const old = await bothServed();
      await lab.moveVirtualAddresses(lab.controllers[1]);

      expect(await kacme('renew', '--force')).toMatchObject({ status: 0 });
      await renewed(old);
    });

    test('goes on after kacme was killed in the middle of an order, without a second one', async () => {
      const [first] = lab.controllers;
      const { ca } = lab.external;
      const old = await served(lab.external);
      const orders = () => ca.output().split('POST /order-plz').length - 1;
      const [before, said] = [orders(), ca.output().length];
      const asked = kacme('renew', '--force', 'external');
      await eventually(
        'the CA is asked to finalize',
        () => ca.output().slice(said).includes('POST /finalize-order/'),
        { timeoutMs: 30_000 },
      );
      await first.engine('kill', '--signal', 'KILL', 'kacme');
      await asked;

      // As the engine does by itself in a cloud.
      expect(await first.engine('start', 'kacme')).toMatchObject({ status: 0 });
      await eventually('a new one is served', async () => (await served(lab.external)) !== old, {
        timeoutMs: 60_000,
      });
      expect(orders() - before).toBe(1);
    });

    test('is checked and stopped by the actions of kolla-ansible', DEPLOYMENT, async () => {
      await eventually('all is in sync', async () => (await kacme('status')).status === 0, {
        timeoutMs: 30_000,
      });
      expect(await play('kacme.yml', 'check')).toMatch(/external/);
      for (const { engine } of lab.controllers)
        expect(await engine('healthcheck', 'run', 'kacme_ssh')).toMatchObject({ status: 0 });
      expect(await lab.controllers[0].engine('healthcheck', 'run', 'kacme')).toMatchObject({ status: 0 });

      await play('kacme.yml', 'stop');
      const found = await containers();
      expect(found[0]?.[2]).toMatchObject({ running: false, exitCode: 0 });
      for (const [haproxy, sidecar] of found) {
        expect(haproxy).toMatchObject({ running: true });
        expect(sidecar).toMatchObject({ running: false, exitCode: 0 });
      }
      await bothServed();
    });
  },
);

/** Asks as a CA does; follows nothing. */
function ask(
  host: string,
  path: string,
): Promise<{ status: number | undefined; location: string | undefined }> {
  return new Promise((resolve, reject) => {
    request({ host, port: HTTP_PORT, path, agent: false }, (response) => {
      response.resume();
      resolve({ status: response.statusCode, location: response.headers.location });
    })
      .once('error', reject)
      .end();
  });
}
