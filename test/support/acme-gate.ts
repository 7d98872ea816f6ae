import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, createServer, request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { type Hold, Holds, type Side } from './holds.ts';
import { freePort, loopbackAddress } from './net.ts';
import type { TestPebble } from './pebble.ts';
import { testCa } from './pem.ts';
import { scratchDirectory } from './scratch.ts';

export interface PassedRequest {
  readonly method: string;
  readonly path: string;
  /** What the CA answered. */
  readonly status: number;
  readonly location: string | undefined;
}

export interface AcmeGate {
  /** The CA as seen through the gate; its URLs lead through it too. */
  readonly directoryUrl: string;
  readonly caFile: string;
  /** Every request that reached the CA. */
  readonly passed: readonly PassedRequest[];
  /** Stops the next request for a path that matches. */
  hold(path: RegExp, side: Side): Hold;
  close(): Promise<void>;
}

/** A pass-through in front of Pebble that counts what arrives there, and stops what a test wants stopped. */
export async function startAcmeGate(pebble: TestPebble): Promise<AcmeGate> {
  const scratch = await scratchDirectory();
  const ca = testCa('Gate to Pebble');
  const address = loopbackAddress();
  const own = ca.issue([address]);
  const caFile = join(scratch.path, 'ca.pem');
  await writeFile(caFile, ca.certPem);
  const upstream = new URL(pebble.directoryUrl);
  const agent = new Agent({ keepAlive: true, ca: await readFile(pebble.caFile, 'utf8') });
  const holds = new Holds();
  const passed: PassedRequest[] = [];

  const forward = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = 'GET', url: path = '/', headers } = request;
    const body = await buffer(request);
    await holds.pass(path, 'before');
    if (response.destroyed) return;
    // The Host header stays: Pebble makes its URLs from it.
    const asked = httpsRequest({
      host: upstream.hostname,
      port: upstream.port,
      agent,
      method,
      path,
      headers,
    });
    asked.end(body);
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    const content = await buffer(answer);
    passed.push({ method, path, status: answer.statusCode ?? 0, location: answer.headers.location });
    await holds.pass(path, 'after');
    if (!response.destroyed) response.writeHead(answer.statusCode ?? 502, answer.headers).end(content);
  };
  const server = createServer({ cert: own.chainPem, key: own.keyPem }, (request, response) => {
    forward(request, response).catch(() => response.destroy());
  });
  const port = await freePort(address);
  server.listen(port, address);
  await once(server, 'listening');
  return {
    directoryUrl: `https://${address}:${port}${upstream.pathname}`,
    caFile,
    passed,
    hold: (path, side) => holds.next(path, side),
    close: async () => {
      server.closeAllConnections();
      server.close();
      agent.destroy();
      await scratch.remove();
    },
  };
}
