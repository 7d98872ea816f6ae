import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request as requestHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { loopbackAddress } from './net.ts';
import type { TestPebble } from './pebble.ts';
import { testCa } from './pem.ts';
import { scratchDirectory } from './scratch.ts';

/** Answers in place of the CA. */
export type CaFault = (request: IncomingMessage, response: ServerResponse) => void;

/** Makes another body of Pebble's, which is JSON mostly. */
export type CaRewrite = (body: string) => string;

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
  /** What was asked for so far at paths that begin with `path`: the payloads of the JWS. */
  payloads(path: string): readonly unknown[];
  /** From now on what Pebble answers at paths that begin with `path` is changed; undefined leaves it as it is. */
  rewrite(path: string, change: CaRewrite | undefined): void;
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
  const payloads: { readonly path: string; readonly payload: unknown }[] = [];
  const rewrites = new Map<string, CaRewrite>();
  let fault: { readonly answer: CaFault; readonly path: string } | undefined;
  const server = createServer({ cert, key }, (request, response) => {
    const path = request.url ?? '/';
    requests.push(`${request.method} ${path}`);
    if (request.method === 'POST') {
      void text(request.pipe(new PassThrough())).then(
        (jws) => payloads.push({ path, payload: payloadOf(jws) }),
        () => {}, // Whoever asked has gone away.
      );
    }
    const change = [...rewrites].find(([prefix]) => path.startsWith(prefix))?.[1];
    if (fault !== undefined && path.startsWith(fault.path)) fault.answer(request, response);
    else passOn({ target: pebble.directoryUrl, ca: pebbleCa, change }, request, response);
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
    payloads: (path) => payloads.filter((sent) => sent.path.startsWith(path)).map(({ payload }) => payload),
    rewrite: (path, change) => {
      if (change === undefined) rewrites.delete(path);
      else rewrites.set(path, change);
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

interface Onward {
  readonly target: string;
  readonly ca: string;
  readonly change: CaRewrite | undefined;
}

function passOn({ target, ca, change }: Onward, request: IncomingMessage, response: ServerResponse): void {
  const { hostname, port } = new URL(target);
  const { method = 'GET', url = '/', headers } = request;
  const onward = requestHttps({ host: hostname, port, path: url, method, headers, ca, agent: false });
  // Pebble is down: for whoever asks, so is the CA.
  const hangUp = () => response.destroy();
  onward.once('response', (answer) => {
    if (change === undefined) {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      return;
    }
    text(answer).then((body) => {
      const { 'content-length': _, ...kept } = answer.headers;
      response.writeHead(answer.statusCode ?? 502, kept).end(change(body));
    }, hangUp);
  });
  onward.once('error', hangUp);
  request.pipe(onward);
}

/** Undefined for a POST-as-GET (RFC 8555 section 6.3). */
function payloadOf(jws: string): unknown {
  const { payload } = JSON.parse(jws) as { payload: string };
  return payload === '' ? undefined : JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
}
