import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { KacmeError, reportError } from '../domain/errors.ts';
import type { KacmeService } from '../ports/service.ts';
import type { Message } from './control-protocol.ts';
import { badRequest, type ControlRoute, controlRoutes } from './control-routes.ts';
import { bindSocket } from './control-socket.ts';
import { gracefulClose } from './graceful-close.ts';

/** A request for 10,000 names fits. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
const REQUEST_WITHIN_MS = 10_000;
const CLOSE_WITHIN_MS = 5_000;

export interface ControlServer {
  readonly socketPath: string;
  /** Aborts running commands, waits until they have answered, at most 5 s, and removes the socket. Idempotent. */
  close(): Promise<void>;
}

export interface ControlServerOptions {
  readonly socketPath: string;
  readonly service: KacmeService;
  readonly log: Logger;
}

/**
 * Serves `service` to the command line over a UNIX socket that only this user can connect to. A client that goes
 * away aborts its command.
 *
 * Throws `ERR_LISTEN` when another service answers there, or the socket cannot be made.
 */
export async function startControlServer(
  { socketPath, service, log }: ControlServerOptions,
  { signal }: { signal: AbortSignal },
): Promise<ControlServer> {
  const routes = controlRoutes(service);
  const closing = new AbortController();
  const server = createServer((request, response) => {
    void answer(routes, request, response, { signal: closing.signal, log });
  });
  const closeServer = gracefulClose(server);
  // A silent connection may wait for a long command: only receiving a request is bounded.
  server.requestTimeout = REQUEST_WITHIN_MS;
  const removeSocket = await bindSocket(server, socketPath, { signal });
  server.on('error', (error) => log.error({ err: error, socketPath }, 'control socket failed'));
  log.info({ socketPath }, 'control socket ready');

  const close = async (): Promise<void> => {
    await removeSocket();
    closing.abort(
      new KacmeError('ERR_ABORTED', 'the service stops before the command is done', {
        retry: 'later',
        remedy: 'run the command again when the service is back; what was done is kept',
      }),
    );
    await closeServer(CLOSE_WITHIN_MS);
  };
  let closed: Promise<void> | undefined;
  return {
    socketPath,
    close: () => {
      closed ??= close();
      return closed;
    },
  };
}

/** Never rejects: what fails is answered, and logged. */
async function answer(
  routes: ReadonlyMap<string, ControlRoute>,
  request: IncomingMessage,
  response: ServerResponse,
  { signal, log }: { signal: AbortSignal; log: Logger },
): Promise<void> {
  const { method, url = '' } = request;
  const [path = ''] = url.split('?');
  const clientGone = new AbortController();
  response.on('close', () => {
    if (response.writableFinished) return;
    clientGone.abort(
      new KacmeError('ERR_ABORTED', `${path}: the client went away before the command was done`, {
        retry: 'later',
      }),
    );
  });
  // A sign of life before what may take minutes: without it the command line takes the service for hung.
  response.writeProcessing();
  try {
    const route = routes.get(path);
    if (route === undefined) {
      response.statusCode = 404;
      throw badRequest(`the running service knows no ${path}`);
    }
    if (route.method !== method) throw badRequest(`${path} takes ${route.method}, not ${method}`);
    const body = method === 'POST' ? await readJson(request) : undefined;
    log.debug({ command: path }, 'control command received');
    const result = await route.run(body, {
      signal: AbortSignal.any([signal, clientGone.signal]),
      onProgress: (progress) => send(response, { progress }),
    });
    send(response, { result });
  } catch (error) {
    const report = reportError(error);
    log.warn({ err: error, command: path }, 'control command failed');
    if (!response.headersSent && response.statusCode === 200) {
      response.statusCode = report.code === 'ERR_CONTROL_REQUEST' ? 400 : 500;
    }
    send(response, { error: report });
  }
  response.end();
}

function send(response: ServerResponse, message: Message): void {
  if (response.destroyed) return;
  if (!response.headersSent) {
    response.setHeader('content-type', 'application/x-ndjson');
    response.setHeader('connection', 'close');
  }
  response.write(`${JSON.stringify(message)}\n`);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const refuseAbove = (size: number): void => {
    if (size > MAX_BODY_BYTES) throw badRequest(`its body is larger than ${MAX_BODY_BYTES} bytes`);
  };
  refuseAbove(Number(request.headers['content-length'] ?? 0));
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    refuseAbove(bytes);
    chunks.push(chunk);
  }
  if (bytes === 0) return {};
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    // The parser's message would quote the body.
    throw badRequest('its body is not JSON');
  }
}
