import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import type { VerificationRequest } from '../../src/ports/haproxy-host.ts';
import { servedTo } from '../support/haproxy-cli.ts';
import { testCa } from '../support/pem.ts';
import { describeEachHaproxy, type LabOptions } from './haproxy-fixture.ts';

const NAME = 'lb.test';
const ca = testCa().intermediate('Issuing CA');

describeEachHaproxy((haproxyLab) => {
  /** A HAProxy with an ECDSA and an RSA bundle for one name, and the place of its RSA half. */
  async function dualLab(haproxy: NonNullable<LabOptions['host']>['haproxy'] = {}) {
    const ecdsa = ca.issue([NAME]);
    const rsa = ca.issue([NAME], { keyType: 'rsa-2048' });
    const certificates = { 'rsa.pem': rsa.bundlePem };
    const lab = await haproxyLab({
      old: ecdsa,
      deployment: { family: 'ecdsa' },
      host: { haproxy: { moreBundles: ['rsa.pem'], certificates, ...haproxy } },
    });
    const path = join(dirname(lab.host.certPath), 'rsa.pem');
    const verify = (request: Omit<VerificationRequest, 'servername'>) =>
      lab.haproxy.verify({ servername: NAME, ...request }, { signal: AbortSignal.timeout(10_000) });
    return { ...lab, ecdsa, rsa, rsaDeployment: { path, file: path, family: 'rsa' as const }, verify };
  }

  test.each([
    { version: 'TLS 1.2', bindArguments: 'ssl-max-ver TLSv1.2' },
    { version: 'TLS 1.3', bindArguments: 'ssl-min-ver TLSv1.3' },
  ])(
    'in $version a handshake for one family is shown the bundle of that family',
    async ({ bindArguments }) => {
      const lab = await dualLab({ bindArguments });
      const verified = { state: 'verified', handshakes: 4 };
      const { fingerprint256: ecdsa } = lab.ecdsa;
      const { fingerprint256: rsa } = lab.rsa;
      expect(await lab.verify({ fingerprint256: ecdsa, family: 'ecdsa' })).toEqual(verified);
      expect(await lab.verify({ fingerprint256: rsa, family: 'rsa' })).toEqual(verified);
      // Whoever offers both never sees the RSA one.
      expect(await lab.verify({ fingerprint256: ecdsa, family: undefined })).toEqual(verified);
      expect(await lab.verify({ fingerprint256: rsa, family: 'ecdsa' })).toMatchObject({
        state: 'failed',
        reason: expect.stringMatching(/^4 of 4 ECDSA-only handshakes with .* presented SHA-256 /),
      });
    },
  );

  test('each half is swapped and verified by itself; the other one is served on', async () => {
    const lab = await dualLab();
    const { address, tlsPort } = lab.host.haproxy;
    const served = () =>
      Promise.all((['ecdsa', 'rsa'] as const).map((family) => servedTo(family, address, tlsPort, NAME)));
    const [ecdsa, rsa] = [ca.issue([NAME]), ca.issue([NAME], { keyType: 'rsa-2048' })];

    expect(await lab.apply(rsa, { deployment: lab.rsaDeployment })).toMatchObject({ state: 'verified' });
    expect(await served()).toEqual([lab.ecdsa.fingerprint256, rsa.fingerprint256]);
    expect(await lab.apply(ecdsa)).toMatchObject({ state: 'verified' });
    expect(await served()).toEqual([ecdsa.fingerprint256, rsa.fingerprint256]);
    await lab.host.haproxy.reload();
    expect(await served()).toEqual([ecdsa.fingerprint256, rsa.fingerprint256]);
  });

  test('where the certificate of a family is lacking, the failure says so', async () => {
    const lab = await haproxyLab({ old: ca.issue([NAME]) });
    const request = { servername: NAME, fingerprint256: 'ab'.repeat(32), family: 'rsa' } as const;
    expect(await lab.haproxy.verify(request, { signal: AbortSignal.timeout(10_000) })).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(
        /^4 of 4 RSA-only handshakes with \S+ failed: [\w /]+: it has no RSA certificate for this name$/,
      ),
    });
  });

  test('a bundle of the other family is not left in the place of a half', async () => {
    const lab = await dualLab();
    const wrong = ca.issue([NAME], { keyType: 'rsa-2048' });
    await expect(lab.apply(wrong)).rejects.toMatchObject({
      code: 'ERR_HOST_UNVERIFIED',
      reason: expect.stringContaining('ECDSA-only handshakes'),
    });
    const verified = await lab.verify({ fingerprint256: lab.ecdsa.fingerprint256, family: 'ecdsa' });
    expect(verified).toMatchObject({ state: 'verified' });
  });
});
