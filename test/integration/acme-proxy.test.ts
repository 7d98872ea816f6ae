import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { type ConnectProxy, type ConnectProxyOptions, startConnectProxy } from '../support/connect-proxy.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { type AcmeLab, connect, effect, obtain, startAcmeLab } from './acme-fixture.ts';

let lab: AcmeLab;
beforeAll(async () => {
  lab = await startAcmeLab();
});
afterAll(() => lab.close());

const PASSWORD = { env: 'PROXY_PASSWORD' };
const SECRET = 'gehe1m:und/lang';

async function proxy(options: ConnectProxyOptions = {}): Promise<ConnectProxy> {
  const started = await startConnectProxy(options);
  onTestFinished(started.close);
  return started;
}

async function connected(
  url: string,
  {
    user,
    secret = SECRET,
    ...overrides
  }: Partial<AcmeLab['issuer']> & {
    user?: string;
    secret?: string | (() => string);
  } = {},
) {
  const credentials = user === undefined ? undefined : { user, password: PASSWORD };
  const issuer = { ...lab.issuer, ...overrides, proxy: { url, credentials } };
  const connection = await connect(issuer, { secret });
  onTestFinished(connection.close);
  return connection;
}

test('an order goes through the proxy as a whole, over fewer tunnels than requests, which nobody can look into', async ({
  signal,
}) => {
  const started = await proxy();
  const { authority, requests } = await connected(started.url);

  await obtain(lab, authority, ['one.test', 'two.test'], effect(signal));

  const ca = new URL(lab.pebble.directoryUrl).host;
  expect(new Set(started.asked)).toEqual(new Set([ca]));
  // How many depends on how many requests are side by side, and Pebble does not promise to keep one after a HEAD.
  expect(started.asked.length).toBeLessThan(requests.length);
  // 0x16: a TLS handshake (RFC 8446 section 5.1).
  expect(started.passed.every((bytes) => bytes.startsWith('\x16'))).toBe(true);
});

test('user and password are given to a proxy that asks for them', async ({ signal }) => {
  const started = await proxy({ credentials: `kacme:${SECRET}` });
  const { authority } = await connected(started.url, { user: 'kacme' });
  await expect(authority.ensureAccount(effect(signal))).resolves.toMatch(/^https:/);
});

test('a password that the proxy does not take is an error of its own, and never shown', async ({
  signal,
}) => {
  const started = await proxy({ credentials: 'kacme:another' });
  const { authority, requests } = await connected(started.url, { user: 'kacme' });

  const failure: unknown = await authority.ensureAccount(effect(signal)).catch((error: unknown) => error);

  expect(failure).toMatchObject({
    code: 'ERR_ACME_PROXY',
    retry: 'never',
    message:
      `directory ${lab.pebble.directoryUrl}: the proxy ${started.url} refused to connect to ` +
      `${new URL(lab.pebble.directoryUrl).host}: HTTP 407 No Tunnel`,
    remedy: expect.stringContaining('user and password'),
  });
  const shown = `${inspect(failure, { depth: 10 })}${JSON.stringify(requests)}`;
  expect(shown).not.toContain(SECRET);
  expect(shown).not.toContain(Buffer.from(`kacme:${SECRET}`).toString('base64'));
});

test('a password that changed is taken at the next attempt', async ({ signal }) => {
  const started = await proxy({ credentials: 'kacme:old' });
  let secret = 'old';
  const { authority, again } = await connected(started.url, {
    user: 'kacme',
    secret: () => secret,
  });
  await authority.ensureAccount(effect(signal));
  started.demand('kacme:new');
  secret = 'new';
  await expect((await again()).ensureAccount(effect(signal))).resolves.toMatch(/^https:/);
});

test.each([
  { refusal: 403, retry: 'never', remedy: 'allow CONNECT' },
  { refusal: 502, retry: 'later', remedy: 'log of the proxy' },
  { refusal: 503, retry: 'later', remedy: 'log of the proxy' },
])('a proxy that refuses with HTTP $refusal is not taken for the CA', async ({ refusal, retry, remedy }) => {
  const { authority, results } = await connected((await proxy({ refusal })).url);
  await expect(authority.ensureAccount(effect(AbortSignal.timeout(5_000)))).rejects.toMatchObject({
    code: 'ERR_ACME_PROXY',
    retry,
    message: expect.stringContaining(`HTTP ${refusal}`),
    remedy: expect.stringContaining(remedy),
  });
  expect(results).toEqual(['ERR_ACME_PROXY']);
});

test('a CA that the proxy cannot reach is a matter between the two', async ({ signal }) => {
  const address = loopbackAddress();
  const directory = `https://${address}:${await freePort(address)}/dir`;
  const { authority } = await connected((await proxy()).url, { directory });
  await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
    code: 'ERR_ACME_PROXY',
    message: expect.stringContaining('HTTP 502'),
  });
});

test('a proxy that does not listen is named, not the CA', async ({ signal }) => {
  const address = loopbackAddress();
  const url = `http://${address}:${await freePort(address)}`;
  const { authority } = await connected(url);
  await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
    code: 'ERR_ACME_PROXY',
    retry: 'later',
    message: expect.stringContaining(`the proxy ${url} cannot be used: connection refused`),
  });
});

test('an https proxy with a certificate that nobody trusts is not talked to', async ({ signal }) => {
  const started = await proxy({ secure: true });
  const { authority } = await connected(started.url, { user: 'kacme' });
  await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
    code: 'ERR_ACME_PROXY',
    message: expect.stringContaining('HTTPS certificate'),
  });
  expect(started.asked).toEqual([]);
});

test('a proxy that never answers is bounded by the timeout of a request', async ({ signal }) => {
  const { url } = await proxy({ silent: true });
  const { authority } = await connected(url, { timeoutMs: 300 });
  await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
    code: 'ERR_ACME_TIMEOUT',
    message: expect.stringContaining(`within 300 ms through the proxy ${url}`),
  });
});

test('the CA behind a proxy is trusted by the caFile and nothing else', async ({ signal }) => {
  const { authority } = await connected((await proxy()).url, { caFile: undefined });
  await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
    code: 'ERR_ACME_UNREACHABLE',
    message: expect.stringContaining('HTTPS certificate'),
    remedy: expect.stringContaining('caFile'),
  });
});

test('HTTPS_PROXY is not used, and said so where the CA cannot be reached', async ({ signal }) => {
  const started = await proxy();
  vi.stubEnv('HTTPS_PROXY', started.url);
  onTestFinished(() => void vi.unstubAllEnvs());
  const address = loopbackAddress();
  const directory = `https://${address}:${await freePort(address)}/dir`;
  const { authority, close } = await connect({ ...lab.issuer, directory });
  onTestFinished(close);
  await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
    code: 'ERR_ACME_UNREACHABLE',
    remedy: expect.stringContaining('kacme does not use HTTPS_PROXY'),
  });
  expect(started.asked).toEqual([]);
});
