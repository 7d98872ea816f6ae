import { once } from 'node:events';
import { copyFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createPki } from '../../src/pki/pki.ts';
import { freePort, loopbackAddress } from '../support/net.ts';
import { startPebble } from '../support/pebble.ts';
import { testCa } from '../support/pem.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { movingClock } from '../unit/acme/moving-clock.ts';
import { connect, effect, issuerSpec } from './acme-fixture.ts';

type Fault = (request: IncomingMessage, response: ServerResponse) => void;

/** No CA makes these mistakes on demand: one that is right in its directory and its nonces, and wrong in the rest. */
async function faultyCa(newAccount: Fault, others: Readonly<Record<string, Fault>> = {}): Promise<string> {
  const address = loopbackAddress();
  const server = createServer((request, response) => {
    const base = `http://${request.headers.host}`;
    const paths: Readonly<Record<string, Fault>> = {
      '/dir': (_, answer) => {
        const directory = {
          newNonce: `${base}/nonce`,
          newAccount: `${base}/account`,
          newOrder: `${base}/order`,
        };
        answer.setHeader('content-type', 'application/json').end(JSON.stringify(directory));
      },
      '/nonce': (_, answer) => answer.setHeader('replay-nonce', 'bm9uY2U').end(),
      '/account': newAccount,
      ...others,
    };
    (paths[request.url ?? ''] ?? ((_, answer) => answer.writeHead(404).end()))(request, response);
  });
  server.listen(0, address);
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('the faulty CA does not listen');
  return `http://${address}:${bound.port}/dir`;
}

async function connected(directory: string, overrides: Parameters<typeof issuerSpec>[1] = {}) {
  const connection = await connect(issuerSpec(directory, overrides));
  onTestFinished(connection.close);
  return connection;
}

const problem = (status: number, type: string, headers: Readonly<Record<string, string>> = {}): Fault =>
  function answer(_, response) {
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
    response.end(JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail: 'because', status }));
  };

describe('a CA that cannot be talked to', () => {
  test('refuses connections: the message has the URL and the cause in words', async ({ signal }) => {
    const address = loopbackAddress();
    const directory = `https://${address}:${await freePort(address)}/dir`;
    const { authority, results } = await connected(directory);
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_UNREACHABLE',
      retry: 'later',
      message: `directory ${directory}: connection refused: nothing listens there (ECONNREFUSED)`,
      remedy: expect.stringContaining('directory URL'),
    });
    expect(results).toEqual(['ERR_ACME_UNREACHABLE']);
  });

  test('has a name that does not exist', async ({ signal }) => {
    const { authority } = await connected('https://ca.invalid/dir');
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_UNREACHABLE',
      message: expect.stringMatching(/^directory https:\/\/ca\.invalid\/dir: .*(DNS|name server)/),
    });
  });

  test('is not trusted by the roots of Node, nor by a caFile with another root', async ({ signal }) => {
    const pebble = await startPebble();
    onTestFinished(pebble.close);
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const otherRoot = join(scratch.path, 'other.pem');
    await writeFile(otherRoot, testCa('Some other root').certPem);
    for (const caFile of [undefined, otherRoot]) {
      const { authority } = await connected(pebble.directoryUrl, { caFile });
      await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
        code: 'ERR_ACME_UNREACHABLE',
        message: expect.stringContaining('HTTPS certificate'),
        remedy: expect.stringContaining('caFile'),
      });
    }
  });

  test('is trusted as soon as its caFile holds the right root', async ({ signal }) => {
    const pebble = await startPebble();
    onTestFinished(pebble.close);
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const caFile = join(scratch.path, 'ca.pem');
    await writeFile(caFile, testCa('Some other root').certPem);
    const { authority, again } = await connected(pebble.directoryUrl, { caFile });
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_UNREACHABLE',
    });

    await copyFile(pebble.caFile, caFile);
    const url = await (await again()).ensureAccount(effect(signal));
    expect(await authority.ensureAccount(effect(signal))).toBe(url);
  });

  test('has a caFile that cannot be read, or holds no certificate', async () => {
    const scratch = await scratchDirectory();
    onTestFinished(scratch.remove);
    const empty = join(scratch.path, 'empty.pem');
    await writeFile(empty, 'nothing\n');
    for (const caFile of [empty, join(scratch.path, 'absent.pem')]) {
      await expect(connect(issuerSpec('https://ca.invalid/dir', { caFile }))).rejects.toMatchObject({
        code: 'ERR_CONFIG_UNREADABLE',
        message: expect.stringContaining(`issuers.test.caFile ${caFile}`),
      });
    }
  });

  test('accepts connections and never answers: the bound of one request holds', async ({ signal }) => {
    const pebble = await startPebble();
    onTestFinished(pebble.close);
    pebble.freeze();
    onTestFinished(pebble.thaw);
    const { authority } = await connected(pebble.directoryUrl, { caFile: pebble.caFile, timeoutMs: 300 });
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_TIMEOUT',
      retry: 'later',
      message: `directory ${pebble.directoryUrl}: no complete answer within 300 ms`,
    });
  });

  test('stops in the middle of an answer: the bound of one request holds', async ({ signal }) => {
    const directory = await faultyCa((_, response) => void response.writeHead(201).write('{"status": "va'));
    const { authority } = await connected(directory, { timeoutMs: 300 });
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({ code: 'ERR_ACME_TIMEOUT' });
  });

  test('is let go of at once when the caller aborts', async () => {
    const stop = new AbortController();
    const reason = new Error('stopping');
    const directory = await faultyCa(() => stop.abort(reason));
    const { authority } = await connected(directory);
    await expect(authority.ensureAccount(effect(stop.signal))).rejects.toBe(reason);
  });
});

describe('an answer that is none', () => {
  test.each<{ what: string; fault: Fault; says: string }>([
    {
      what: 'HTML with status 200',
      fault: (_, response) => response.setHeader('location', '/acct/1').end('<html>Welcome</html>'),
      says: 'no JSON document, but "<html>Welcome</html>"',
    },
    {
      what: 'a page that was not found',
      fault: (_, response) => response.writeHead(404).end('<html>nothing\nhere</html>'),
      says: 'HTTP 404 without a problem document, but "<html>nothing here</html>"',
    },
    {
      what: 'an account without Location',
      fault: (_, response) => response.writeHead(201).end('{"status":"valid"}'),
      says: 'no Location',
    },
    {
      what: 'a body that is cut short',
      fault: (_, response) => {
        response.writeHead(201, { 'content-length': '100' }).write('{"status":');
        setImmediate(() => response.destroy());
      },
      says: 'it breaks off',
    },
    {
      what: 'a redirect',
      fault: (_, response) => response.writeHead(302, { location: 'https://portal.test/' }).end(),
      says: 'it redirects (HTTP 302) to https://portal.test/',
    },
    {
      what: 'a flood',
      fault: (_, response) => response.writeHead(201).end('x'.repeat(2_000_000)),
      says: 'larger than any ACME server sends',
    },
    {
      what: 'something that is not HTTP',
      fault: (request) => request.socket.end('SSH-2.0-OpenSSH_9.2\r\n'),
      says: 'it does not speak HTTP',
    },
  ])('$what is named for what it is', async ({ fault, says }) => {
    const { authority } = await connected(await faultyCa(fault));
    await expect(authority.ensureAccount(effect(AbortSignal.timeout(5_000)))).rejects.toMatchObject({
      code: 'ERR_ACME_MALFORMED',
      retry: 'later',
      message: expect.stringContaining(says),
    });
  });

  test('an https directory where plain HTTP answers is named so', async ({ signal }) => {
    const directory = (await faultyCa(() => {})).replace('http:', 'https:');
    const { authority } = await connected(directory);
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_MALFORMED',
      message: expect.stringContaining('TLS'),
    });
  });
});

describe('a refusal', () => {
  test('of HTTP 500 is given in the words of the CA, and may pass', async ({ signal }) => {
    const { authority, results } = await connected(await faultyCa(problem(500, 'serverInternal')));
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_PROBLEM',
      retry: 'later',
      status: 500,
      message: expect.stringMatching(
        /^newAccount http.* with HTTP 500, since it failed inside: because \(serverInternal\)$/,
      ),
    });
    expect(results.at(-1)).toBe('ERR_ACME_PROBLEM');
  });

  test('by a load balancer in HTML may pass too, and keeps its Retry-After', async ({ signal }) => {
    const fault: Fault = (_, response) =>
      response.writeHead(503, { 'retry-after': '60' }).end('<h1>down</h1>');
    const { authority } = await connected(await faultyCa(fault));
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({
      code: 'ERR_ACME_PROBLEM',
      retry: 'later',
      notBefore: expect.any(Date),
      message: expect.stringContaining('HTTP 503: no problem document, but "<h1>down</h1>"'),
    });
  });

  // An HTTP date has whole seconds.
  const date = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 86_400_000);
  test.each([
    { form: 'a date', header: date.toUTCString(), within: [date.getTime(), date.getTime()] },
    { form: 'seconds', header: '3600', within: [Date.now() + 3_600_000, Date.now() + 3_700_000] },
  ])('for a rate limit carries its end, given as $form', async ({ header, within: [from = 0, to = 0] }) => {
    const directory = await faultyCa(problem(429, 'rateLimited', { 'retry-after': header }));
    const { authority } = await connected(directory);
    const refusal = await authority.ensureAccount(effect(AbortSignal.timeout(5_000))).catch((error) => error);
    expect(refusal).toMatchObject({ code: 'ERR_ACME_RATE_LIMITED', retry: 'later' });
    expect(refusal.notBefore.getTime()).toBeGreaterThanOrEqual(from);
    expect(refusal.notBefore.getTime()).toBeLessThanOrEqual(to);
  });

  test('of every nonce is given up after some, each sent with a new one', async ({ signal }) => {
    let asked = 0;
    const directory = await faultyCa((request, response) => {
      asked += 1;
      problem(400, 'badNonce', { 'replay-nonce': `n${asked}` })(request, response);
    });
    const { authority, requests } = await connected(directory);
    await expect(authority.ensureAccount(effect(signal))).rejects.toMatchObject({ type: 'badNonce' });
    expect(asked).toBe(16);
    expect(requests.filter(({ resource }) => resource === 'newNonce')).toHaveLength(1);
  });
});

test('an order that the CA never finishes is let go of at once when the caller aborts', async () => {
  const stop = new AbortController();
  const reason = new Error('stopping');
  let looks = 0;
  const directory = await faultyCa(
    (_, response) => response.writeHead(201, { location: '/acct/1' }).end('{}'),
    {
      '/order/1': (request, response) => {
        const base = `http://${request.headers.host}`;
        const order = {
          status: 'processing',
          authorizations: [`${base}/authz/1`],
          finalize: `${base}/finalize`,
        };
        response
          .writeHead(200, { 'retry-after': '100', 'replay-nonce': 'bm9uY2U' })
          .end(JSON.stringify(order));
        looks += 1;
        // Now it waits for its next look.
        response.once('close', () => setImmediate(() => stop.abort(reason)));
      },
    },
  );
  const { authority } = await connected(directory);
  await authority.ensureAccount(effect(stop.signal));
  const startedMs = performance.now();

  const waiting = authority.awaitOrder(new URL('/order/1', directory).href, { signal: stop.signal });

  await expect(waiting).rejects.toBe(reason);
  expect(looks).toBe(1);
  expect(performance.now() - startedMs).toBeLessThan(5_000);
});

test('a CA that asks for time after finalize is not asked before', async ({ signal }) => {
  const order = (status: string, headers: Readonly<Record<string, string>>): Fault =>
    function answer(request, response) {
      const base = `http://${request.headers.host}`;
      const document = { status, authorizations: [`${base}/authz/1`], finalize: `${base}/order/1/finalize` };
      response.writeHead(200, { 'replay-nonce': 'bm9uY2U', ...headers }).end(JSON.stringify(document));
    };
  const directory = await faultyCa(
    (_, response) => response.writeHead(201, { location: '/acct/1' }).end('{}'),
    {
      '/order/1': order('valid', {}),
      '/order/1/finalize': order('processing', { 'retry-after': '7' }),
    },
  );
  const clock = movingClock();
  const { authority, close } = await connect(issuerSpec(directory), { clock });
  onTestFinished(close);
  const options = effect(signal);
  await authority.ensureAccount(options);
  const url = new URL('/order/1', directory).href;
  const request = { keyPem: await createPki().generateKey('ecdsa-p256'), identifiers: ['one.test'] };

  const ready = await authority.order(url, options);
  if (ready === undefined) throw new Error('the CA knows the order');
  const finalized = await authority.finalize(ready, request, options);

  expect(finalized.status).toBe('processing');
  expect(await authority.awaitOrder(url, options)).toMatchObject({ status: 'valid' });
  expect(clock.slept).toEqual([7_000]);
});

describe('an order that is asked for again', () => {
  const orderAnswering = async (fault: Fault) => {
    const accountExists: Fault = (_, response) => response.writeHead(200, { location: '/acct/1' }).end('{}');
    const directory = await faultyCa(accountExists, { '/order/1': fault });
    return { ...(await connected(directory)), url: new URL('/order/1', directory).href };
  };

  test.for<{ when: string; fault: Fault }>([
    { when: 'with a problem document', fault: problem(404, 'malformed') },
    { when: 'with nothing', fault: (_, response) => response.writeHead(404).end() },
  ])('is undefined when the CA does not find it and says so $when', async ({ fault }, { signal }) => {
    const { authority, url } = await orderAnswering(fault);
    expect(await authority.order(url, { signal })).toBeUndefined();
  });

  test.for([
    { status: 400, type: 'malformed', code: 'ERR_ACME_PROBLEM' },
    { status: 403, type: 'unauthorized', code: 'ERR_ACME_PROBLEM' },
    { status: 429, type: 'rateLimited', code: 'ERR_ACME_RATE_LIMITED' },
    { status: 500, type: 'serverInternal', code: 'ERR_ACME_PROBLEM' },
  ])('is not given up for HTTP $status ($type)', async ({ status, type, code }, { signal }) => {
    const { authority, url } = await orderAnswering(problem(status, type));
    await expect(authority.order(url, { signal })).rejects.toMatchObject({ code, status });
  });

  test('is not given up when it is the account that the CA does not find', async ({ signal }) => {
    const directory = await faultyCa(problem(404, 'accountDoesNotExist'));
    const { authority } = await connected(directory);
    const asked = authority.order(new URL('/order/1', directory).href, { signal });
    await expect(asked).rejects.toMatchObject({ code: 'ERR_ACME_PROBLEM', type: 'accountDoesNotExist' });
  });
});
