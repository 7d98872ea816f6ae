import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { Listen } from '../domain/model.ts';
import { type ListeningServer, startListening } from './listening.ts';

export interface ChallengeServerOptions {
  /** Port 0 takes any free one. */
  readonly listen: Listen;
  /** The key authorization of a token, undefined for one that nobody waits for. */
  readonly lookup: (token: string, options: { signal: AbortSignal }) => Promise<string | undefined>;
  /** Called when a key authorization was handed out. */
  readonly onServed?: (token: string) => void;
  readonly log: Logger;
}

/** A CA sends a small request at once: whoever takes longer or sends more is none. */
const REQUEST_WITHIN_MS = 5_000;
const SILENCE_MS = 10_000;
const MAX_HEADER_BYTES = 8_192;
const LOOKUP_WITHIN_MS = 5_000;

/** RFC 8555 section 8.3. The token is base64url: no dot, slash or percent sign gets as far as a look-up. */
const CHALLENGE = /^\/\.well-known\/acme-challenge\/([A-Za-z0-9_-]{1,256})(?:\?.*)?$/;

/**
 * Answers http-01 challenges. It faces the internet through HAProxy, so it is bounded in every way and says nothing
 * of anything else. Throws `ERR_LISTEN` when it cannot listen there.
 */
export async function startChallengeServer(
  options: ChallengeServerOptions,
  { signal }: { signal: AbortSignal },
): Promise<ListeningServer> {
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
  const remedy =
    "stop what uses it, or set challenge.listen to another address (and HAProxy's backend with it)";
  return startListening(server, { listen, name: 'challenge server', remedy, log }, { signal });
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
