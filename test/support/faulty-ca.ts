import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request as requestHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { loopbackAddress } from './net.ts';
import type { TestPebble } from './pebble.ts';
import { testCa } from './pem.ts';
import { scratchDirectory } from './scratch.ts';

/** Answers in place of the CA. */
export type CaFault = (request: IncomingMessage, response: ServerResponse) => void;

export interface CaFront extends AsyncDisposable {
  readonly directoryUrl: string;
  /** PEM of the root of its HTTPS certificate. */
  readonly caFile: string;
  /** PEM of a root that signed nothing here. */
  readonly otherCaFile: string;
  /** Every request so far, as `POST /order-plz`. */
  readonly requests: readonly string[];
  /** From now on requests (those whose path begins with `path`) are answered by `fault`; undefined passes all on. */
  failWith(fault: CaFault | undefined, path?: string): void;
  /** From now on connections are refused. */
  stop(): Promise<void>;
  /** Listens again at the same address. */
  start(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Stands before Pebble, records what passes and can be made to fail. Pebble names its resources by the Host that it
 * was asked as, so every later request passes here too.
 */
export async function startCaFront(pebble: TestPebble): Promise<CaFront> {
  const scratch = await scratchDirectory();
  const address = loopbackAddress();
  const ca = testCa('HTTPS of the front');
  const caFile = join(scratch.path, 'front-ca.pem');
  const otherCaFile = join(scratch.path, 'other-ca.pem');
  await writeFile(caFile, ca.certPem);
  await writeFile(otherCaFile, testCa('Some other root').certPem);
  const { certPem: cert, keyPem: key } = ca.issue([address]);
  const pebbleCa = await readFile(pebble.caFile, 'utf8');

  const requests: string[] = [];
  let fault: { readonly answer: CaFault; readonly path: string } | undefined;
  const server = createServer({ cert, key }, (request, response) => {
    requests.push(`${request.method} ${request.url}`);
    if (fault !== undefined && request.url?.startsWith(fault.path) === true) fault.answer(request, response);
    else passOn(pebble.directoryUrl, pebbleCa, request, response);
  });
  server.listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const stop = async () => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  const close = async () => {
    await stop();
    await scratch.remove();
  };
  return {
    directoryUrl: `https://${address}:${port}${new URL(pebble.directoryUrl).pathname}`,
    caFile,
    otherCaFile,
    requests,
    failWith: (answer, path = '/') => {
      fault = answer && { answer, path };
    },
    stop,
    start: async () => {
      server.listen(port, address);
      await once(server, 'listening');
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function passOn(target: string, ca: string, request: IncomingMessage, response: ServerResponse): void {
  const { hostname, port } = new URL(target);
  const { method = 'GET', url = '/', headers } = request;
  const onward = requestHttps({ host: hostname, port, path: url, method, headers, ca, agent: false });
  onward.once('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  // Pebble is down: for whoever asks, so is the CA.
  onward.once('error', () => response.destroy());
  request.pipe(onward);
}
