import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createSelfCheck } from '../../src/acme/self-check.ts';
import { createResolver } from '../../src/dns/resolver.ts';
import type { Resolver } from '../../src/ports/resolver.ts';
import type { ProbeOutcome } from '../../src/ports/self-check.ts';
import { addressData, startFaultyDns } from '../support/dns-server.ts';
import { startHaproxy } from '../support/haproxy.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { selfSigned } from '../support/pem.ts';

const TOKEN = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA';
const PATH = `/.well-known/acme-challenge/${TOKEN}`;
const KEY_AUTHORIZATION = `${TOKEN}.thumbprint`;

const answer: RequestListener = (_, response) => response.end(KEY_AUTHORIZATION);
const redirectTo =
  (location: string, status = 301): RequestListener =>
  (_, response) =>
    response.writeHead(status, { location }).end();

/** Something else than kacme that may stand where the challenge is looked for. */
async function serve(
  listener: RequestListener,
  options: { address?: string; port?: number; tls?: boolean } = {},
) {
  const address = options.address ?? loopbackAddress();
  const certificate = selfSigned('wrong-name.test');
  const server =
    options.tls === true
      ? createTlsServer({ cert: certificate.certPem, key: certificate.keyPem }, listener)
      : createServer(listener);
  server.listen(options.port ?? 0, address);
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('it does not listen');
  return { address, via: `http://${address}:${bound.port}` };
}

const twice = { via: undefined, passes: 2 };

function check(
  setting: 'direct' | { via: string },
  identifier: string,
  {
    signal = AbortSignal.timeout(20_000),
    address,
    resolver,
  }: { signal?: AbortSignal; address?: string; resolver?: Resolver } = {},
): Promise<ProbeOutcome> {
  const spec = setting === 'direct' ? twice : { ...twice, ...setting };
  const selfCheck = createSelfCheck(spec, resolver);
  if (selfCheck === undefined) throw new Error('the self-check is off');
  const probe = { identifier, token: TOKEN, keyAuthorization: KEY_AUTHORIZATION, address };
  return selfCheck.fetch(probe, { signal });
}

const unreachable = (message: string | RegExp) => ({
  code: 'ERR_CHALLENGE_UNREACHABLE',
  retry: 'later',
  message: typeof message === 'string' ? expect.stringContaining(message) : expect.stringMatching(message),
  remedy: expect.stringContaining('challenge.listen'),
});

test('the self-check can be off', () => {
  expect(createSelfCheck('off', undefined)).toBeUndefined();
});

describe('via an address', () => {
  test('asks there for the identifier and is content with the key authorization', async () => {
    const asked: unknown[] = [];
    const { via } = await serve((request, response) => {
      asked.push([request.method, request.url, request.headers.host]);
      response.end(`${KEY_AUTHORIZATION}\n`);
    });
    await check({ via }, 'cloud.example.org');
    expect(asked).toEqual([['GET', PATH, 'cloud.example.org']]);
  });

  test('follows a redirect of the identifier to itself through the same address', async () => {
    const { via } = await serve((request, response) => {
      if (request.url === '/here') response.end(KEY_AUTHORIZATION);
      else response.writeHead(302, { location: '/here' }).end();
    });
    await check({ via }, 'cloud.example.org');
  });

  test('names each URL and what answered when HAProxy does not forward the challenge', async () => {
    const haproxy = await startHaproxy({ bundlePem: selfSigned('cloud.example.org').bundlePem });
    onTestFinished(haproxy.close);
    const via = `http://${haproxy.address}:${haproxy.httpPort}`;
    await expect(check({ via }, 'cloud.example.org')).rejects.toMatchObject(
      unreachable(
        `http://cloud.example.org${PATH} (via ${via}): it answers HTTP 404 and "nothing here". The CA was not asked`,
      ),
    );
  });

  test('sees that HAProxy forwards to nobody', async () => {
    const address = loopbackAddress();
    const haproxy = await startHaproxy({
      bundlePem: selfSigned('cloud.example.org').bundlePem,
      challengeBackend: `${address}:${await freePort(address)}`,
    });
    onTestFinished(haproxy.close);
    const via = `http://${haproxy.address}:${haproxy.httpPort}`;
    await expect(check({ via }, 'cloud.example.org')).rejects.toMatchObject(
      unreachable('it answers HTTP 503'),
    );
  });

  test('says so when somebody else answers', async () => {
    const { via } = await serve((_, response) => response.end('\u0007It works!\n'));
    await expect(check({ via }, 'cloud.example.org')).rejects.toMatchObject(
      unreachable('it answers HTTP 200 and "It works!", which is not what kacme serves'),
    );
  });

  test('quotes no more than the beginning of a long answer', async () => {
    const { via } = await serve((_, response) => response.end('long '.repeat(1_000_000)));
    const failure = await check({ via }, 'cloud.example.org').catch((error: unknown) => error);
    expect(String(failure)).toContain('"long long');
    expect(String(failure).length).toBeLessThan(600);
  });

  test('says so when the connection is refused', async () => {
    const address = loopbackAddress();
    const via = `http://${address}:${await freePort(address)}`;
    await expect(check({ via }, 'cloud.example.org')).rejects.toMatchObject(
      unreachable('connection refused'),
    );
  });

  test.each(['http://cloud.example.org:8080/x', 'ftp://cloud.example.org/x'])(
    'does not follow to %s, since the CA would not',
    async (location) => {
      const { via } = await serve(redirectTo(location));
      await expect(check({ via }, 'cloud.example.org')).rejects.toMatchObject(
        unreachable(`it redirects to ${location}, and the CA follows to ports 80 and 443 only`),
      );
    },
  );

  test('gives up after ten redirects and names them all', async () => {
    let hops = 0;
    const { via } = await serve((request, response) => {
      hops += 1;
      redirectTo(`/hop${hops}`)(request, response);
    });
    await expect(check({ via }, 'cloud.example.org')).rejects.toMatchObject(
      unreachable(/-> http:\/\/cloud\.example\.org\/hop1 -> .*hop10.*more than 10 redirects/),
    );
    expect(hops).toBe(11);
  });

  test('ends at once with the reason of the signal', async () => {
    const stop = new AbortController();
    const reason = new Error('stopping');
    const { via } = await serve(() => stop.abort(reason));
    await expect(check({ via }, 'cloud.example.org', { signal: stop.signal })).rejects.toBe(reason);
  });
});

describe('directly', () => {
  test('says so when the name does not exist', async () => {
    await expect(check('direct', 'no-such-name.invalid')).rejects.toMatchObject(
      unreachable(/http:\/\/no-such-name\.invalid\/.*: the name (does not exist|server does not answer)/),
    );
  });

  // Port 80 takes privileges; the identifier is an address of this machine, so that no DNS is needed.
  describe.skipIf(process.getuid?.() !== 0)('with an address as the identifier', () => {
    test('asks port 80', async () => {
      const { address } = await serve(answer, { port: 80 });
      await check('direct', address);
    });

    test('follows to https and does not mind the certificate there', async () => {
      const { address } = await serve(answer, { port: 443, tls: true });
      await serve(redirectTo(`https://${address}${PATH}`), { address, port: 80 });
      await check('direct', address);
    });

    test('follows to another host', async () => {
      const other = await serve(answer, { port: 80 });
      const { address } = await serve(redirectTo(`http://${other.address}${PATH}`), { port: 80 });
      await check('direct', address);
    });

    test('asks the address it is given for the name', async () => {
      const { address } = await serve(answer, { port: 80 });
      expect(await check('direct', 'cloud.example.org', { address })).toEqual({ state: 'answered' });
    });

    test('names the address that does not answer', async () => {
      const address = `::ffff:${loopbackAddress()}`;
      await expect(check('direct', 'cloud.example.org', { address })).rejects.toMatchObject(
        unreachable(`http://cloud.example.org${PATH} (to ${address}): connection refused`),
      );
    });

    test('finds the host of a redirect through the resolvers', async () => {
      const other = await serve(answer, { port: 80 });
      const { address } = await serve(redirectTo(`http://other.test${PATH}`), { port: 80 });
      const dns = await startFaultyDns(({ name, type }) =>
        name === 'other.test' && type === 'A'
          ? { records: [{ type: 'A', data: addressData(other.address) }] }
          : { code: name === 'other.test' ? 0 : 3 },
      );
      onTestFinished(dns.close);
      const resolver = createResolver({ resolvers: [dns.listen] });
      expect(await check('direct', address, { resolver })).toEqual({ state: 'answered' });
      const lost = await serve(redirectTo(`http://nowhere.test${PATH}`), { port: 80 });
      await expect(check('direct', lost.address, { resolver })).rejects.toMatchObject(
        unreachable('nowhere.test does not exist in DNS'),
      );
    });

    test('tells to look at DNS and HAProxy, or to go via an address, when nothing listens', async () => {
      const address = loopbackAddress();
      await expect(check('direct', address)).rejects.toMatchObject({
        ...unreachable('connection refused'),
        remedy: expect.stringMatching(/lead to HAProxy.*challenge\.selfCheck\.via/),
      });
    });
  });
});
