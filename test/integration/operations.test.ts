import { once } from 'node:events';
import { createConnection } from 'node:net';
import { pino } from 'pino';
import { request } from 'undici';
import { expect, onTestFinished, test } from 'vitest';
import { KacmeError } from '../../src/domain/errors.ts';
import type { ListeningServer } from '../../src/http/listening.ts';
import { createMetrics, type Metrics } from '../../src/http/metrics.ts';
import { type OperationsServerOptions, startOperationsServer } from '../../src/http/operations-server.ts';
import { loopbackAddress } from '../support/net.ts';
import { STATUS } from '../unit/cli/fake-service.ts';

const log = pino({ level: 'silent' });
const metrics = createMetrics({ version: '0.1.0', status: async () => STATUS });

async function start(
  options: Partial<OperationsServerOptions>,
  { signal }: { signal: AbortSignal },
): Promise<ListeningServer> {
  const server = await startOperationsServer(
    {
      listen: { host: loopbackAddress(), port: 0 },
      metrics,
      readiness: async () => ({ ready: true, reasons: [] }),
      log,
      ...options,
    },
    { signal },
  );
  onTestFinished(() => server.close());
  return server;
}

async function ask({ address }: ListeningServer, path: string, method: 'GET' | 'HEAD' | 'POST' = 'GET') {
  const { statusCode, headers, body } = await request(`http://${address.host}:${address.port}${path}`, {
    method,
    headers: { connection: 'close' },
  });
  return { status: statusCode, headers, body: await body.text() };
}

test('/healthz answers while the process does, ready or not', async ({ signal }) => {
  const server = await start(
    { readiness: async () => ({ ready: false, reasons: ['no mandate'] }) },
    { signal },
  );
  expect(await ask(server, '/healthz')).toMatchObject({ status: 200, body: 'ok\n' });
});

test('/readyz follows readiness and gives the reasons', async ({ signal }) => {
  let reasons: readonly string[] = ['the challenge server does not listen yet'];
  const server = await start(
    { readiness: async () => ({ ready: reasons.length === 0, reasons }) },
    { signal },
  );
  const unready = await ask(server, '/readyz');
  expect(unready.status).toBe(503);
  expect(JSON.parse(unready.body)).toEqual({ ready: false, reasons });

  reasons = [];
  const ready = await ask(server, '/readyz');
  expect(ready.status).toBe(200);
  expect(JSON.parse(ready.body)).toEqual({ ready: true, reasons: [] });
});

test('/metrics gives the state of certificates and hosts to Prometheus', async ({ signal }) => {
  const server = await start({}, { signal });
  const { status, headers, body } = await ask(server, '/metrics');
  expect(status).toBe(200);
  expect(headers['content-type']).toContain('text/plain; version=0.0.4');
  expect(body).toContain(`kacme_certificate_not_after_seconds{certificate="external"} 1777640400`);
  expect(body).toContain('kacme_host_reachable{pool="loadbalancers",host="10.0.0.12"} 0');
});

test('/metrics answers 503 with the reason when there is no status', async ({ signal }) => {
  const broken: Metrics = createMetrics({
    version: '0.1.0',
    status: async () => {
      throw new KacmeError('ERR_STORE_UNUSABLE', 'read the store: input/output error', { retry: 'later' });
    },
  });
  const server = await start({ metrics: broken }, { signal });
  const { status, body } = await ask(server, '/metrics');
  expect(status).toBe(503);
  expect(JSON.parse(body)).toMatchObject({ error: { code: 'ERR_STORE_UNUSABLE' } });
});

test('/ names the pages, everything else is not found, and nothing can be changed', async ({ signal }) => {
  const server = await start({}, { signal });
  expect((await ask(server, '/')).body).toContain('/readyz');
  expect((await ask(server, '/../etc/kacme/kacme.yaml')).status).toBe(404);
  expect((await ask(server, '/metrics/')).status).toBe(404);
  expect(await ask(server, '/healthz', 'POST')).toMatchObject({
    status: 405,
    headers: { allow: 'GET, HEAD' },
  });
  expect(await ask(server, '/healthz', 'HEAD')).toMatchObject({
    status: 200,
    headers: { 'content-length': '3' },
    body: '',
  });
});

test('a port that is taken is named, with the setting to change', async ({ signal }) => {
  const first = await start({}, { signal });
  await expect(start({ listen: first.address }, { signal })).rejects.toMatchObject({
    code: 'ERR_LISTEN',
    message: expect.stringContaining(`port ${first.address.port}`),
    remedy: expect.stringContaining('operations.listen'),
  });
});

test('closing does not wait for connections that say nothing', async ({ signal }) => {
  const server = await start({}, { signal });
  const idle = createConnection({ host: server.address.host, port: server.address.port });
  await once(idle, 'connect');
  const ended = once(idle, 'close');
  idle.resume();
  await Promise.all([server.close(), server.close()]);
  await ended;
});
