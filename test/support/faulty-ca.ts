import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request as requestHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { loopbackAddress } from './net.ts';
import type { TestPebble } from './pebble.ts';
import { testCa } from './pem.ts';
import { scratchDirectory } from './scratch.ts';

/** What the CA answers, whole. */
export interface CaAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers in place of the CA. `ask` asks the CA itself, and gives its answer to `then`. */
export type CaFault = (
  request: IncomingMessage,
  response: ServerResponse,
  ask: (then: (answer: CaAnswer) => void) => void,
) => void;

/** What happens to some of the requests. */
export interface CaRule {
  /** The beginning of the path, or what it looks like. */
  readonly path: string | RegExp;
  readonly fault: CaFault;
  /** How many requests it is for, one after the other; all when not given. */
  readonly times?: number;
}

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
  /** The User-Agent of each of them. */
  readonly userAgents: readonly (string | undefined)[];
  /** TLS connections so far. */
  readonly connections: number;
  /** From now on the first rule that fits decides; what fits none passes. */
  rules(...rules: readonly CaRule[]): void;
  /** A single rule. From now on requests (those whose path begins with `path`) are answered by `fault`; undefined passes all on. */
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
  const userAgents: (string | undefined)[] = [];
  let connections = 0;
  let rules: { readonly rule: CaRule; left: number }[] = [];
  const setRules = (...wanted: readonly CaRule[]) => {
    rules = wanted.map((rule) => ({ rule, left: rule.times ?? Number.POSITIVE_INFINITY }));
  };
  const server = createServer({ cert, key }, (request, response) => {
    const path = request.url ?? '/';
    requests.push(`${request.method} ${path}`);
    userAgents.push(request.headers['user-agent']);
    if (request.method === 'POST') {
      void text(request.pipe(new PassThrough())).then(
        (jws) => payloads.push({ path, payload: payloadOf(jws) }),
        () => {}, // Whoever asked has gone away.
      );
    }
    const onward = { target: pebble.directoryUrl, ca: pebbleCa };
    const ask = (then: (answer: CaAnswer) => void) => askCa(onward, request, response, then);
    const change = [...rewrites].find(([prefix]) => path.startsWith(prefix))?.[1];
    const found = rules.find(({ rule, left }) => left > 0 && fits(rule.path, path));
    if (found !== undefined) found.left -= 1;
    if (found !== undefined) found.rule.fault(request, response, ask);
    else if (change !== undefined) changing(({ body }) => ({ body: change(body) }))(request, response, ask);
    else passOn(onward, request, response);
  });
  server.on('secureConnection', () => {
    connections += 1;
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
    userAgents,
    get connections() {
      return connections;
    },
    rules: setRules,
    failWith: (fault, path = '/') => setRules(...(fault === undefined ? [] : [{ path, fault }])),
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

const fits = (path: CaRule['path'], url: string): boolean =>
  typeof path === 'string' ? url.startsWith(path) : path.test(url);

interface Onward {
  readonly target: string;
  readonly ca: string;
}

/** As it comes, so that nothing waits for its end. */
function passOn(onward: Onward, request: IncomingMessage, response: ServerResponse): void {
  sendOn(onward, request, response, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
}

function askCa(
  onward: Onward,
  request: IncomingMessage,
  response: ServerResponse,
  then: (answer: CaAnswer) => void,
): void {
  sendOn(onward, request, response, (answer) => {
    const { statusCode: status = 502, headers } = answer;
    text(answer)
      .then((body) => then({ status, headers, body }))
      .catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });
}

function sendOn(
  { target, ca }: Onward,
  request: IncomingMessage,
  response: ServerResponse,
  then: (answer: IncomingMessage) => void,
): void {
  const { hostname, port } = new URL(target);
  const { method = 'GET', url = '/', headers } = request;
  const sent = requestHttps({ host: hostname, port, path: url, method, headers, ca, agent: false });
  // Pebble is down: for whoever asks, so is the CA.
  sent.once('response', then).once('error', () => response.destroy());
  request.pipe(sent);
}

/** Undefined for a POST-as-GET (RFC 8555 section 6.3). */
function payloadOf(jws: string): unknown {
  const { payload } = JSON.parse(jws) as { payload: string };
  return payload === '' ? undefined : JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
}

/** Answers so, and does not ask the CA. */
export const answering =
  (status: number, body = '', headers: Readonly<Record<string, string>> = {}): CaFault =>
  (_, response) => {
    response.writeHead(status, headers).end(body);
  };

/** A refusal of RFC 8555 section 6.7; `more` goes into its document. */
export const refusing = (
  status: number,
  type: string,
  {
    headers = {},
    ...more
  }: { readonly headers?: Readonly<Record<string, string>>; readonly [field: string]: unknown } = {},
): CaFault =>
  answering(
    status,
    JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail: 'the CA says so', status, ...more }),
    { 'content-type': 'application/problem+json', ...headers },
  );

/** Takes the request and says nothing. */
export const silence: CaFault = () => {};

/** Says that an answer comes, and does not give it. */
export const silenceAfterHeaders: CaFault = (_, response) => {
  response.writeHead(200, { 'content-length': '100' }).flushHeaders();
};

/** The answer of the CA up to the middle of its body, then the end of the connection. */
export const cutShort: CaFault = (_, response, ask) =>
  ask(({ status, headers: { 'transfer-encoding': _, ...headers }, body }) => {
    response.writeHead(status, { ...headers, 'content-length': String(Buffer.byteLength(body)) });
    response.write(body.slice(0, body.length / 2), () => response.destroy());
  });

/** The answer of the CA, changed. A header that becomes undefined goes. */
export const changing =
  (change: (answer: CaAnswer) => Partial<CaAnswer>): CaFault =>
  (_, response, ask) =>
    ask((answer) => {
      const changed = { ...answer, ...change(answer) };
      const { 'content-length': _, ...headers } = changed.headers;
      const kept = Object.entries(headers).filter(([, value]) => value !== undefined);
      response.writeHead(changed.status, Object.fromEntries(kept)).end(changed.body);
    });

/** The JSON document of the CA with other values; an undefined one takes its field away. */
export const withFields = (fields: Readonly<Record<string, unknown>>): CaFault =>
  changing(({ body }) => ({ body: JSON.stringify({ ...JSON.parse(body), ...fields }) }));
