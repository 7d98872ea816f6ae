import { beforeEach, describe, expect, test } from 'vitest';
import { revokeCertificates } from '../../src/app/revoke-command.ts';
import { KacmeError } from '../../src/domain/errors.ts';
import type { CertificateSpec, IssuerSpec } from '../../src/domain/model.ts';
import type { RevokeRequest } from '../../src/domain/revocation.ts';
import { issuingParts } from '../support/issuing.ts';
import { type PaperCa, paperCa } from '../support/paper-ca.ts';
import { testCa } from '../support/pem.ts';
import { appFixture, effect, issuer, START, spec } from '../unit/app/app-fixture.ts';

let app: Awaited<ReturnType<typeof appFixture>>;
let ca: PaperCa;
beforeEach(async () => {
  app = await appFixture();
  app.advance(Date.now() - START.getTime());
  ca = paperCa();
  ca.override({ revoke: async () => 'revoked' });
});

const half = (name: string): CertificateSpec => ({ ...spec(), name, dualOf: 'site' });
const named = (name: string): CertificateSpec => ({ ...spec(), name });

function setUp(issuers: Readonly<Record<string, IssuerSpec>> = { ca: issuer() }) {
  const parts = issuingParts(issuers, app.deps, () => ca.authority);
  const revoke = (
    specs: readonly CertificateSpec[],
    options: { signal: AbortSignal },
    changes: Partial<RevokeRequest> = {},
  ) =>
    revokeCertificates(
      specs,
      {
        certificate: 'site',
        reason: 'superseded',
        replace: false,
        fingerprint: undefined,
        signedBy: 'account',
        ...changes,
      },
      parts.revocations,
      {
        issue: async () => {},
        distribute: async () => [],
        placesOf: async () => [],
        onChanged: () => {},
      },
      { ...effect(options.signal), onProgress: () => {} },
    );
  const issue = (of: CertificateSpec, { signal }: { signal: AbortSignal }) =>
    parts.issuer.issue(of, 'ca', 'the test says so', effect(signal));
  const activeId = async (name: string, options: { signal: AbortSignal }) =>
    (await parts.bundles.active(name, options))?.id ?? '';
  return { ...parts, revoke, issue, activeId };
}

const heardRevoke = () => ca.heard.filter((request) => request === 'revoke').length;

describe('a revocation whose answer is lost', () => {
  test('is stored, so that the certificate is replaced and asked for again', async ({ signal }) => {
    const { revoke, issue, revocations, renewalInfo } = setUp();
    await issue(spec(), { signal });
    ca.override({
      revoke: async () => {
        const [pending] = await revocations.pending('site', { signal });
        expect(pending).toMatchObject({ active: true, revocation: { reason: 'superseded' } });
        throw new KacmeError('ERR_ACME_TIMEOUT', 'no answer', { retry: 'later' });
      },
    });
    const summary = await revoke([spec()], { signal });
    expect(summary).toMatchObject({
      outcome: 'failed',
      certificates: [{ failure: { code: 'ERR_ACME_TIMEOUT' } }],
    });
    expect((await renewalInfo.of('site', { signal }))?.held.unfit).toContain('to be revoked (superseded)');
  });

  test('and one that the CA refuses is as if it had never been asked for', async ({ signal }) => {
    const { revoke, issue, revocations, renewalInfo } = setUp();
    await issue(spec(), { signal });
    ca.override({
      revoke: async () => {
        throw new KacmeError('ERR_ACME_PROBLEM', 'bad reason', {
          retry: 'never',
          problems: ['badRevocationReason'],
        });
      },
    });
    expect(await revoke([spec()], { signal })).toMatchObject({ outcome: 'failed' });
    expect(await revocations.pending('site', { signal })).toEqual([]);
    expect((await renewalInfo.of('site', { signal }))?.held.unfit).toBeUndefined();
  });
});

describe('of a dual certificate', () => {
  test('the half is revoked whose fingerprint is given', async ({ signal }) => {
    const { revoke, issue, activeId } = setUp();
    for (const name of ['site', 'site-rsa']) await issue(half(name), { signal });
    const fingerprint = await activeId('site-rsa', { signal });
    const summary = await revoke([half('site'), half('site-rsa')], { signal }, { fingerprint });
    expect(summary).toMatchObject({
      outcome: 'done',
      certificates: [{ certificate: 'site-rsa', action: 'revoked' }],
    });
    expect(summary.certificates).toHaveLength(1);
  });

  test('a half that only holds a self-signed certificate keeps nobody from revoking the other', async ({
    signal,
  }) => {
    const { revoke, issue, bundles } = setUp();
    await issue(half('site'), { signal });
    await bundles.ensureSelfSigned(half('site-rsa'), effect(signal));
    expect(await revoke([half('site'), half('site-rsa')], { signal })).toMatchObject({
      outcome: 'done',
      certificates: [
        { certificate: 'site', action: 'revoked' },
        { certificate: 'site-rsa', action: 'kept', reason: expect.stringContaining('self-signed') },
      ],
    });
  });

  test('halves that have nothing to revoke are both named', async ({ signal }) => {
    const { revoke } = setUp();
    await expect(revoke([half('site'), half('site-rsa')], { signal })).rejects.toMatchObject({
      code: 'ERR_NOTHING_TO_REVOKE',
      message: expect.stringMatching(/cannot revoke site: .*; cannot revoke site-rsa: /),
    });
  });
});

describe('a certificate that was adopted from a host', () => {
  async function adopted(issuers: Readonly<Record<string, IssuerSpec>>, options: { signal: AbortSignal }) {
    const made = setUp(issuers);
    const { chainPem, keyPem } = testCa().issue(['site.test']);
    const bundle = { chainPem, keyPem, origin: 'adopted', issuer: undefined, reason: 'adopted' } as const;
    await made.bundles.activate(named('site'), bundle, {}, effect(options.signal));
    return made;
  }

  test('is revoked at the only issuer there is', async ({ signal }) => {
    const { revoke } = await adopted({ ca: issuer() }, { signal });
    expect(await revoke([named('site')], { signal })).toMatchObject({ outcome: 'done' });
    expect(heardRevoke()).toBe(1);
  });

  test('is refused before anything is ordered where its CA cannot be told', async ({ signal }) => {
    const { revoke, revocations } = await adopted({ ca: issuer(), other: issuer({}, 'other') }, { signal });
    await expect(revoke([named('site')], { signal }, { replace: true })).rejects.toMatchObject({
      code: 'ERR_NOTHING_TO_REVOKE',
      message: expect.stringContaining('which of ca, other issued it is not known'),
    });
    expect(await revocations.pending('site', { signal })).toEqual([]);
  });
});
