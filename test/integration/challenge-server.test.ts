import { EventEmitter, once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { type ChallengeServerOptions, startChallengeServer } from '../../src/http/challenge-server.ts';
import type { ListeningServer } from '../../src/http/listening.ts';
import { loopbackAddress } from '../support/net.ts';

const TOKEN = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA';
const PATH = `/.well-known/acme-challenge/${TOKEN}`;
const KEY_AUTHORIZATION = `${TOKEN}.thumbprint`;

async function started(options: Partial<ChallengeServerOptions> = {}): Promise<ListeningServer> {
  const server = await startChallengeServer(
    {
      listen: { host: loopbackAddress(), port: 0 },
      lookup: async (token) => (token === TOKEN ? KEY_AUTHORIZATION : undefined),
      log: pino({ level: 'silent' }),
      ...options,
    },
    { signal: AbortSignal.timeout(5_000) },
  );
  onTestFinished(server.close);
  return server;
}

async function ask({ address }: ListeningServer, path: string, method = 'GET') {
  const outgoing = request({ ...address, path, method, agent: false }).end();
  const [response] = await once(outgoing, 'response');
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

/** Sends `begin` and resolves to all that comes back before the connection ends. */
async function speak({ address }: ListeningServer, begin: string): Promise<string> {
  const socket = connect(address).setEncoding('utf8');
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk;
  });
  socket.on('error', () => {});
  socket.write(begin);
  await once(socket, 'close');
  return answer;
}

test('a known token gets exactly its key authorization', async () => {
  const served: string[] = [];
  const server = await started({ onServed: (token) => served.push(token) });
  const { status, headers, body } = await ask(server, PATH);
  expect({ status, body }).toEqual({ status: 200, body: KEY_AUTHORIZATION });
  expect(headers).toMatchObject({ 'content-type': 'application/octet-stream', 'cache-control': 'no-store' });
  expect(served).toEqual([TOKEN]);
});

test('HEAD tells the length without the body', async () => {
  const { status, headers, body } = await ask(await started(), PATH, 'HEAD');
  expect({ status, body, length: headers['content-length'] }).toEqual({
    status: 200,
    body: '',
    length: String(KEY_AUTHORIZATION.length),
  });
});

test('a query string does not hide a token', async () => {
  expect((await ask(await started(), `${PATH}?from=ca`)).status).toBe(200);
});

test.each([
  '/',
  '/.well-known/acme-challenge/',
  '/.well-known/acme-challenge/unknown',
  '/.well-known/acme-challenge/../../etc/passwd',
  '/.well-known/acme-challenge/..%2f..%2fetc%2fpasswd',
  `/.well-known/acme-challenge/${TOKEN}/`,
  `/.well-known/acme-challenge/${TOKEN}.txt`,
  `/.well-known/acme-challenge//${TOKEN}`,
  `/.well-known/acme-challenge/${'a'.repeat(257)}`,
])('%s is not found', async (path) => {
  const looked: string[] = [];
  const server = await started({ lookup: async (token) => void looked.push(token) });
  expect((await ask(server, path)).status).toBe(404);
  expect(looked.every((token) => token === 'unknown')).toBe(true);
});

test('other methods are refused', async () => {
  const { status, headers } = await ask(await started(), PATH, 'POST');
  expect({ status, allow: headers.allow }).toEqual({ status: 405, allow: 'GET, HEAD' });
});

test('a look-up that fails is answered with 503, and the next one works', async () => {
  let broken = true;
  const server = await started({
    lookup: async () => {
      if (broken) throw new Error('the store is away');
      return KEY_AUTHORIZATION;
    },
  });
  const failed = await ask(server, PATH);
  expect(failed).toMatchObject({ status: 503, body: 'try again\n' });
  broken = false;
  expect((await ask(server, PATH)).status).toBe(200);
});

test('headers that never end are cut off, while others are served', { timeout: 15_000 }, async () => {
  const server = await started();
  const slow = speak(server, `GET ${PATH} HTTP/1.1\r\nHost: one.test\r\n`);
  expect((await ask(server, PATH)).status).toBe(200);
  expect(await slow).toMatch(/^HTTP\/1\.1 408/);
});

test('headers larger than any CA sends are refused', async () => {
  const server = await started();
  const answer = await speak(
    server,
    `GET ${PATH} HTTP/1.1\r\nHost: one.test\r\nX: ${'x'.repeat(9_000)}\r\n\r\n`,
  );
  expect(answer).toMatch(/^HTTP\/1\.1 431/);
});

test('a port that is taken is named with what to do', async () => {
  const { address } = await started();
  await expect(started({ listen: address })).rejects.toMatchObject({
    code: 'ERR_LISTEN',
    retry: 'never',
    message: `challenge server: listen on ${address.host} port ${address.port}: another process listens there already`,
    remedy: expect.stringContaining('challenge.listen'),
  });
});

test('an address that this machine does not have is named', async () => {
  await expect(started({ listen: { host: '192.0.2.1', port: 8081 } })).rejects.toThrow(
    'this machine does not have that address',
  );
});

test('closing lets the answer under way finish and takes no other', async () => {
  const events = new EventEmitter();
  const looking = once(events, 'looking');
  const server = await started({
    lookup: async () => {
      const found = once(events, 'found');
      events.emit('looking');
      await found;
      return KEY_AUTHORIZATION;
    },
  });
  const asked = ask(server, PATH);
  await looking;
  const closed = server.close();
  await expect(ask(server, PATH)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  events.emit('found');
  expect(await asked).toMatchObject({ status: 200, body: KEY_AUTHORIZATION });
  await closed;
  await expect(server.close()).resolves.toBeUndefined();
});

test('closing ends the connection of a client that says nothing', async () => {
  const server = await started();
  const silent = speak(server, '');
  // The connection must have been accepted before the server closes.
  await ask(server, PATH);
  await server.close();
  expect(await silent).toBe('');
});
