import { createPrivateKey, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readBundlePem, renderBundlePem } from '../../src/domain/x509.ts';
import { createPki } from '../../src/pki/pki.ts';
import { heldMandate } from '../support/mandate.ts';
import type { PebbleOptions } from '../support/pebble.ts';
import { type AcmeLab, connect, effect, type LoggedRequest, obtain, startAcmeLab } from './acme-fixture.ts';

/** For every test that needs nothing special of the CA. */
let shared: AcmeLab;
beforeAll(async () => {
  shared = await startAcmeLab({ reuseAuthorizations: 0 });
});
afterAll(() => shared.close());

async function lab(options: PebbleOptions = {}): Promise<AcmeLab> {
  const started = await startAcmeLab(options);
  onTestFinished(started.close);
  return started;
}

async function connected(issuer: AcmeLab['issuer'], options: Parameters<typeof connect>[1] = {}) {
  const connection = await connect(issuer, options);
  onTestFinished(connection.close);
  return connection;
}

/** Without the looks that came too early: how many there are depends on how busy this machine is. */
function needed(requests: readonly LoggedRequest[], names: number): number {
  const count = (resource: string) => requests.filter((request) => request.resource === resource).length;
  const early = Math.max(0, count('authorization') - 2 * names) + Math.max(0, count('order') - 2);
  return requests.length - early;
}

test.each([
  { count: 1, keyType: 'ecdsa-p256' },
  { count: 2, keyType: 'rsa-2048' },
  { count: 10, keyType: 'ecdsa-p384' },
] as const)(
  'an order of $count names with a key of type $keyType ends in a loadable bundle',
  async ({ count, keyType }) => {
    const servedBefore = shared.served.size;
    const { authority } = await connected(shared.issuer);
    const names = Array.from({ length: count }, (_, i) => `n${i}.test`);

    const { chainPem, keyPem } = await obtain(
      shared,
      authority,
      names,
      effect(AbortSignal.timeout(25_000)),
      keyType,
    );

    const content = readBundlePem(renderBundlePem(chainPem, keyPem));
    expect(content).toMatchObject({ state: 'loadable', facts: { selfSigned: false } });
    expect(content.state === 'loadable' && content.facts.identifiers.toSorted()).toEqual(names.toSorted());
    expect(new X509Certificate(chainPem).checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
    expect(shared.served.size - servedBefore).toBe(count);
  },
);

test('two names and a new account take at most 16 requests', async ({ signal }) => {
  const { authority, requests, results } = await connected(shared.issuer);

  await obtain(shared, authority, ['one.test', 'two.test'], effect(signal));

  expect(needed(requests, 2)).toBeLessThanOrEqual(16);
  expect(new Set(results)).toEqual(new Set(['ok']));
  expect(results).toHaveLength(requests.length);
  expect(requests.filter(({ resource }) => resource === 'directory')).toHaveLength(1);
});

test('an address is ordered as an address', async ({ signal }) => {
  const { authority } = await connected(shared.issuer);
  const { address } = shared.pebble;
  const { chainPem } = await obtain(shared, authority, [address], effect(signal));
  expect(new X509Certificate(chainPem).checkIP(address)).toBeDefined();
});

test('a CA that refuses half of its own nonces gets what it wants', async ({ signal }) => {
  const started = await lab({ rejectNonces: 50 });
  const { authority, requests } = await connected(started.issuer);

  await obtain(started, authority, ['one.test', 'two.test'], effect(signal));

  expect(requests.some(({ problem }) => problem === 'badNonce')).toBe(true);
});

describe('an account', () => {
  test('is found again by its key', async ({ signal }) => {
    const { issuer } = shared;
    const keyPem = await newKey();
    const first = await connected(issuer, { keyPem });
    const url = await first.authority.ensureAccount(effect(signal));
    const second = await connected(issuer, { keyPem });
    expect(await second.authority.ensureAccount(effect(signal))).toBe(url);
    expect(second.requests.find(({ resource }) => resource === 'newAccount')?.status).toBe(200);
  });

  test('is asked for once, however often and from however many sides it is needed', async ({ signal }) => {
    const { issuer } = shared;
    const { authority, requests } = await connected(issuer);
    const options = effect(signal);
    await Promise.all([1, 2, 3].map(() => authority.ensureAccount(options)));
    await authority.ensureAccount(options);
    expect(requests.filter(({ resource }) => resource === 'newAccount')).toHaveLength(1);
  });

  test('gets its contact changed at the CA when the configuration has another one', async ({ signal }) => {
    const { issuer } = shared;
    const keyPem = await newKey();
    await (await connected(issuer, { keyPem })).authority.ensureAccount(effect(signal));
    const moved = { ...issuer, contact: ['mailto:new@example.org'] };
    const { authority, requests } = await connected(moved, { keyPem });
    await authority.ensureAccount(effect(signal));
    expect(requests.at(-1)).toMatchObject({ resource: 'account', status: 200 });
    const again = await connected(moved, { keyPem });
    await again.authority.ensureAccount(effect(signal));
    expect(again.requests.at(-1)).toMatchObject({ resource: 'newAccount', status: 200 });
  });

  test('is not made without agreement to the terms', async ({ signal }) => {
    const { issuer } = shared;
    const { authority, requests } = await connected({ ...issuer, termsOfServiceAgreed: false });
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_TERMS',
      retry: 'never',
      remedy: expect.stringContaining('issuers.test.termsOfServiceAgreed: true'),
    });
    expect(requests.map(({ resource }) => resource)).toEqual(['directory']);
  });

  test('that the CA forgot is registered again by the next order', async ({ signal }) => {
    const started = await lab();
    const { authority, requests } = await connected(started.issuer);
    await authority.ensureAccount(effect(signal));
    await started.pebble.stop();
    await started.pebble.start();
    await expect(authority.newOrder(['one.test'], effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_PROBLEM',
      type: 'accountDoesNotExist',
      retry: 'later',
    });
    await expect(authority.newOrder(['one.test'], effect(signal))).resolves.toMatchObject({
      status: 'pending',
    });
    expect(requests.filter(({ resource }) => resource === 'newAccount')).toHaveLength(2);
  });
});

describe('external account binding', () => {
  const hmacKey = Buffer.from('a throw-away key that only this test knows').toString('base64url');
  const eab = { keyId: 'kid-1', hmacKey: { file: '/nowhere' } };
  let closed: AcmeLab;
  beforeAll(async () => {
    closed = await startAcmeLab({ externalAccounts: { 'kid-1': hmacKey } });
  });
  afterAll(() => closed.close());

  test('lets an account in', async ({ signal }) => {
    const { issuer } = closed;
    const { authority } = await connected({ ...issuer, eab }, { secret: `${hmacKey}\n` });
    await expect(authority.ensureAccount(effect(signal))).resolves.toMatch(/^https:/);
  });

  test('is asked for by name when it is missing', async ({ signal }) => {
    const { issuer } = closed;
    const { authority } = await connected(issuer);
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      type: 'externalAccountRequired',
      retry: 'never',
      remedy: expect.stringContaining('eab'),
    });
  });

  test('with a wrong key is refused without telling the key', async ({ signal }) => {
    const { issuer } = closed;
    const wrong = Buffer.from('another key').toString('base64url');
    const { authority } = await connected({ ...issuer, eab }, { secret: wrong });
    const refusal = authority.ensureAccount(effect(signal));
    await expect(refusal).rejects.toMatchObject({ code: 'ERR_ACME_PROBLEM' });
    await expect(refusal).rejects.not.toThrow(wrong);
  });
});

test('a name that the CA does not issue for is refused once and for all, by name', async ({ signal }) => {
  const { issuer } = await lab({ blockedNames: ['blocked.test'] });
  const { authority } = await connected(issuer);
  await authority.ensureAccount(effect(signal));
  await expect(authority.newOrder(['one.test', 'www.blocked.test'], effect(signal))).rejects.toMatchObject({
    type: 'rejectedIdentifier',
    retry: 'never',
    message: expect.stringContaining('www.blocked.test'),
  });
});

test('a CA that knows no profiles says so without an account', async ({ signal }) => {
  const { authority, requests } = await connected(shared.issuer);
  expect(await authority.profiles({ signal })).toBeUndefined();
  expect(requests.map(({ resource }) => resource)).toEqual(['directory']);
});

test('a challenge that is answered wrongly makes the authorization invalid, with the words of the CA', async ({
  signal,
}) => {
  const { authority } = await connected(shared.issuer);
  const options = effect(signal);
  await authority.ensureAccount(options);
  const order = await authority.newOrder(['one.test'], options);
  const { url, http01 } = await authority.authorization(order.authorizations[0] ?? '', options);
  shared.challenges.set(http01?.token ?? '', 'wrong');

  await authority.respond(http01?.url ?? '', options);

  expect(await authority.awaitAuthorization(url, options)).toMatchObject({
    status: 'invalid',
    identifier: 'one.test',
    error: expect.stringContaining('unauthorized'),
  });
  expect(await authority.awaitOrder(order.url, options)).toMatchObject({ status: 'invalid' });
});

test('an order is taken up by another process with the same account key', async ({ signal }) => {
  const keyPem = await newKey();
  const first = await connected(shared.issuer, { keyPem });
  await first.authority.ensureAccount(effect(signal));
  const { url } = await first.authority.newOrder(['one.test'], effect(signal));
  const second = await connected(shared.issuer, { keyPem });
  expect(await second.authority.order(url, { signal })).toMatchObject({ url, status: 'pending' });
});

describe('a mandate', () => {
  test('that is lost lets no effect out', async ({ signal }) => {
    const { issuer } = shared;
    const { authority, requests } = await connected(issuer);
    await authority.ensureAccount(effect(signal));
    const before = requests.length;
    const mandate = heldMandate();
    mandate.lose();

    await expect(authority.newOrder(['one.test'], { signal, mandate })).rejects.toMatchObject({
      code: 'ERR_MANDATE_LOST',
    });

    expect(requests).toHaveLength(before);
  });

  test('is looked at immediately before the request, after the nonce was fetched', async ({ signal }) => {
    const { issuer } = shared;
    const { authority, requests } = await connected(issuer);
    const held = heldMandate();
    const seen: string[][] = [];
    const assertHeld = () => void seen.push(requests.map(({ resource }) => resource));
    await authority.ensureAccount({ signal, mandate: { ...held, assertHeld } });
    expect(seen).toEqual([['directory', 'newNonce']]);
  });
});

const newKey = () => createPki().generateKey('ecdsa-p256');
