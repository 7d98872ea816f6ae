import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { CertificateStatus, Status, Summary } from '../../src/domain/status.ts';
import { type AcmeGate, startAcmeGate } from '../support/acme-gate.ts';
import { eventually } from '../support/eventually.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

const REVOKE = /^\/revoke-cert$/;

describe.each([
  { version: '2.4', renewalInfo: false },
  { version: '2.6', renewalInfo: true },
])('with Pebble $version', ({ renewalInfo }) => {
  let lab: LabKacme;
  let acme: AcmeGate;

  beforeAll(async () => {
    lab = await labKacme({
      hosts: 2,
      bundlePem: selfSigned('site.test').bundlePem,
      pebble: { reuseAuthorizations: 0, renewalInfo },
    });
    acme = await startAcmeGate(lab.pebble);
    await lab.kacme.overlay({ issuers: { pebble: { directory: acme.directoryUrl, caFile: acme.caFile } } });
  });
  afterAll(async () => {
    await lab?.close();
    await acme?.close();
  });

  const revoked = () => acme.passed.filter(({ path }) => REVOKE.test(path)).map(({ status }) => status);
  const ordered = () =>
    acme.passed.filter(({ path, status }) => path === '/order-plz' && status === 201).length;

  function siteOf({ certificates }: Status): CertificateStatus {
    const [site] = certificates;
    if (site === undefined) throw new Error('no certificate in the status');
    return site;
  }
  const site = async () => siteOf(await lab.kacme.status());

  async function revoke(
    ...args: string[]
  ): Promise<{ status: number | null; stderr: string; summary: Summary }> {
    const { status, stdout, stderr } = await lab.kacme.run('revoke', 'site', ...args, '--json');
    if (stdout === '') throw new Error(`kacme revoke ${args.join(' ')} ended with ${status}: ${stderr}`);
    return { status, stderr, summary: JSON.parse(stdout) as Summary };
  }

  test.each([
    {
      what: 'a reason that is none',
      args: ['site', '--reason', 'boredom'],
      says: /unspecified, keyCompromise/,
    },
    { what: 'no reason', args: ['site'], says: /--reason/ },
    {
      what: 'a name that is none',
      args: ['sight', '--reason', 'unspecified'],
      says: /no certificate named sight/,
    },
  ])('$what is refused with what there is, exit 2', async ({ args, says }) => {
    const { status, stderr } = await lab.kacme.run('revoke', ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
  });

  test('a self-signed bundle cannot be revoked, and the CA is not asked', async () => {
    expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
    const { status, stderr } = await lab.kacme.run('revoke', 'site', '--reason', 'superseded');
    expect(status).toBe(2);
    expect(stderr).toContain('is self-signed: no CA knows it');
    expect(acme.passed).toEqual([]);
  });

  test('without a service: revoked by the account, kept by the hosts, renewed at once for that reason', async () => {
    expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
    const before = await site();
    const { status, summary } = await revoke('--reason', 'cessationOfOperation');
    expect(status).toBe(0);
    expect(summary.certificates).toMatchObject([
      { action: 'revoked', reason: expect.stringMatching(/cessationOfOperation.*by the account/) },
    ]);
    const after = await lab.kacme.run('status', '--json');
    expect(after.status).toBe(3);
    expect(siteOf(JSON.parse(after.stdout) as Status)).toMatchObject({
      state: 'revoked',
      fingerprint256: before.fingerprint256,
      next: expect.stringContaining('issues now: revoked (cessationOfOperation)'),
    });
    expect(await lab.served()).toEqual([before.fingerprint256, before.fingerprint256]);
    expect((await revoke('--reason', 'cessationOfOperation')).summary.certificates[0]?.reason).toContain(
      'was revoked at',
    );
    expect(revoked()).toEqual([200]);

    expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
    expect(await site()).toMatchObject({ state: 'valid' });
    const rollback = await lab.kacme.run('rollback', 'site');
    expect(rollback.status).toBe(1);
    expect(rollback.stdout + rollback.stderr).toContain('is revoked');
  });

  test('a revoked bundle is not given to a host that lost it', async () => {
    expect((await revoke('--reason', 'unspecified')).status).toBe(0);
    // Not the host that challenges come through.
    const host = lab.fleet.hosts[1];
    if (host === undefined) throw new Error('the lab has no second host');
    await host.haproxy.stop();
    await rm(host.certPath);
    const distribute = await lab.kacme.run('distribute', '--json');
    expect(distribute.status).toBe(3);
    expect((JSON.parse(distribute.stdout) as Summary).places).toContainEqual(
      expect.objectContaining({
        host: host.address,
        inSync: false,
        reason: expect.stringContaining('revoked'),
      }),
    );
    expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
    await host.haproxy.start();
    await eventually('it serves the successor', async () => {
      const [, served] = await lab.served();
      return served === (await site()).fingerprint256;
    });
  });

  test('with the key of the certificate, without the account', async () => {
    const { summary } = await revoke('--reason', 'keyCompromise', '--with', 'certificate-key');
    expect(summary.certificates[0]?.reason).toContain("with the certificate's key");
    expect(await lab.kacme.run('renew')).toMatchObject({ status: 0 });
  });

  test('with the key of the certificate where the account cannot', async () => {
    expect(await lab.kacme.run('account', 'deactivate', 'pebble', '--yes')).toMatchObject({ status: 0 });
    const { status, summary } = await revoke('--reason', 'affiliationChanged');
    expect(status, JSON.stringify(summary)).toBe(0);
    expect(summary.certificates[0]?.reason).toContain("with the certificate's key");
    expect(await lab.kacme.run('account', 'register', 'pebble')).toMatchObject({ status: 0 });
    expect(await lab.kacme.run('renew', '--force')).toMatchObject({ status: 0 });
  });

  describe('through the running service', () => {
    test('a revoked certificate is replaced on the hosts by itself', async () => {
      const service = await lab.kacme.serve();
      onTestFinished(() => service.stop());
      await lab.kacme.settled();
      const before = await site();
      expect((await revoke('--reason', 'superseded')).status).toBe(0);
      await eventually('its successor is ordered for that reason', () =>
        service
          .log()
          .some(
            ({ msg, reason }) =>
              msg === 'issuance started' && String(reason).startsWith('revoked (superseded)'),
          ),
      );
      const after = siteOf(await lab.kacme.settled());
      expect(after.fingerprint256).not.toBe(before.fingerprint256);
      expect(await lab.served()).toEqual([after.fingerprint256, after.fingerprint256]);
    });

    test('--replace revokes only when every host presents the successor', async () => {
      const service = await lab.kacme.serve();
      onTestFinished(() => service.stop());
      await lab.kacme.settled();
      const before = await site();
      const { reached, release } = acme.hold(REVOKE, 'before');
      const command = revoke('--reason', 'superseded', '--replace');
      await reached;
      const successor = (await site()).fingerprint256;
      expect(successor).not.toBe(before.fingerprint256);
      expect(await lab.served()).toEqual([successor, successor]);
      release();
      const { status, summary } = await command;
      expect(status, JSON.stringify(summary)).toBe(0);
      expect(summary).toMatchObject({ outcome: 'done', certificates: [{ action: 'revoked' }] });
      expect(await site()).toMatchObject({ state: 'valid', pendingRevocations: [] });
    });

    test('--replace waits for a host that is down, and revokes once it is back and has the successor', async () => {
      const service = await lab.kacme.serve();
      onTestFinished(() => service.stop());
      await lab.kacme.settled();
      const before = await site();
      const count = revoked().length;
      const down = lab.fleet.hosts[1];
      await down?.sshd.stop();
      const { status, summary } = await revoke('--reason', 'superseded', '--replace');
      expect(status).toBe(3);
      expect(summary.certificates).toMatchObject([
        { action: 'pending', reason: expect.stringContaining(`${down?.address} cannot be reached`) },
      ]);
      expect(await site()).toMatchObject({
        state: 'valid',
        pendingRevocations: [{ fingerprint256: before.fingerprint256, reason: 'superseded' }],
      });
      expect(revoked()).toHaveLength(count);

      // It survives the service.
      service.signal('SIGKILL');
      await service.exited;
      await down?.sshd.start();
      const restarted = await lab.kacme.serve();
      onTestFinished(() => restarted.stop());
      await restarted.logged('certificate revoked', { fingerprint256: before.fingerprint256 });
      const { fingerprint256 } = siteOf(await lab.kacme.settled());
      expect(await lab.served()).toEqual([fingerprint256, fingerprint256]);
      expect((await site()).pendingRevocations).toEqual([]);
    });

    test('keyCompromise does not wait for a host that is down', async () => {
      const service = await lab.kacme.serve();
      onTestFinished(() => service.stop());
      await lab.kacme.settled();
      const count = revoked().length;
      const down = lab.fleet.hosts[1];
      await down?.sshd.stop();
      onTestFinished(async () => down?.sshd.start());
      const { status, summary } = await revoke('--reason', 'keyCompromise', '--replace');
      expect(status).toBe(3);
      expect(summary.certificates).toMatchObject([{ action: 'revoked' }]);
      expect(revoked()).toHaveLength(count + 1);
      expect(await site()).toMatchObject({ state: 'valid', pendingRevocations: [] });
    });

    test.each(['before', 'after'] as const)(
      'killed with SIGKILL %s the CA has answered: the next start ends what was begun, with one successor',
      async (side) => {
        const service = await lab.kacme.serve();
        await lab.kacme.settled();
        const before = await site();
        const orders = ordered();
        const { reached, release } = acme.hold(REVOKE, side);
        const command = lab.kacme.run('revoke', 'site', '--reason', 'superseded', '--replace');
        await reached;
        service.signal('SIGKILL');
        await service.exited;
        release();
        expect(await command).toMatchObject({ status: 1 });
        const restarted = await lab.kacme.serve();
        onTestFinished(() => restarted.stop());
        await restarted.logged('certificate revoked', { fingerprint256: before.fingerprint256 });
        expect(ordered()).toBe(orders + 1);
        expect(siteOf(await lab.kacme.settled())).toMatchObject({ state: 'valid', pendingRevocations: [] });
      },
    );
  });
});
