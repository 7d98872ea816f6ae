import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { KacmeError } from '../domain/errors.ts';
import type { Listen } from '../domain/model.ts';
import { gracefulClose } from './graceful-close.ts';

export interface ChallengeServerOptions {
  /** Port 0 takes any free one. */
  readonly listen: Listen;
  /** The key authorization of a token, undefined for one that nobody waits for. */
  readonly lookup: (token: string, options: { signal: AbortSignal }) => Promise<string | undefined>;
  /** Called when a key authorization was handed out. */
  readonly onServed?: (token: string) => void;
  readonly log: Logger;
}

export interface ChallengeServer {
  readonly address: Listen;
  /** Lets answers under way finish, at most 2 s. Idempotent. */
  close(): Promise<void>;
}

/** A CA sends a small request at once: whoever takes longer or sends more is none. */
const REQUEST_WITHIN_MS = 5_000;
const SILENCE_MS = 10_000;
const MAX_HEADER_BYTES = 8_192;
const LOOKUP_WITHIN_MS = 5_000;
const CLOSE_WITHIN_MS = 2_000;

/** RFC 8555 section 8.3. The token is base64url: no dot, slash or percent sign gets as far as a look-up. */
const CHALLENGE = /^\/\.well-known\/acme-challenge\/([A-Za-z0-9_-]{1,256})(?:\?.*)?$/;

/**
 * Answers http-01 challenges. It faces the internet through HAProxy, so it is bounded in every way and says nothing
 * of anything else. Throws `ERR_LISTEN` when it cannot listen there.
 */
export async function startChallengeServer(
  options: ChallengeServerOptions,
  { signal }: { signal: AbortSignal },
): Promise<ChallengeServer> {
  const { listen, log } = options;
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: REQUEST_WITHIN_MS,
      requestTimeout: REQUEST_WITHIN_MS,
      // Node looks for late requests at this interval only; its own is 30 s.
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => void respond(options, request, response),
  );
  server.setTimeout(SILENCE_MS);
  const closeServer = gracefulClose(server);
  try {
    server.listen(listen);
    await once(server, 'listening', { signal });
  } catch (error) {
    server.close();
    signal.throwIfAborted();
    throw cannotListen(listen, error);
  }
  server.on('error', (error) => log.error({ err: error }, 'challenge server failed'));
  const { address, port } = server.address() as AddressInfo;
  log.info({ host: address, port }, 'challenge server ready');

  let closed: Promise<void> | undefined;
  return {
    address: { host: address, port },
    close: () => {
      closed ??= closeServer(CLOSE_WITHIN_MS);
      return closed;
    },
  };
}

/** Never rejects: a look-up that fails is answered with 503, and logged. */
async function respond(
  { lookup, onServed, log }: ChallengeServerOptions,
  { method = '', url = '', headers, socket }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const token = CHALLENGE.exec(url)?.[1];
  const asked = { client: socket.remoteAddress, userAgent: headers['user-agent'], identifier: headers.host };
  if (token === undefined) return send(response, method, 404, 'not found\n');
  if (method !== 'GET' && method !== 'HEAD') return send(response, method, 405, 'only GET and HEAD\n');
  try {
    const keyAuthorization = await lookup(token, { signal: AbortSignal.timeout(LOOKUP_WITHIN_MS) });
    log.debug({ ...asked, known: keyAuthorization !== undefined }, 'challenge asked for');
    if (keyAuthorization === undefined) return send(response, method, 404, 'no such challenge\n');
    send(response, method, 200, keyAuthorization);
    onServed?.(token);
  } catch (error) {
    log.warn({ ...asked, err: error }, 'challenge could not be looked up');
    send(response, method, 503, 'try again\n');
  }
}

function send(response: ServerResponse, method: string, status: number, body: string): void {
  if (response.destroyed) return;
  response.writeHead(status, {
    'content-type': status === 200 ? 'application/octet-stream' : 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(method === 'HEAD' ? undefined : body);
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there already',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EACCES: 'this user may not listen on that port',
};

function cannotListen({ host, port }: Listen, cause: unknown): KacmeError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const reason = REASONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
  return new KacmeError('ERR_LISTEN', `listen on ${host} port ${port} for challenges: ${reason}`, {
    cause,
    retry: 'never',
    remedy: "stop what uses it, or set challenge.listen to another address (and HAProxy's backend with it)",
  });
}
