import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { reportError } from '../domain/errors.ts';
import type { Listen } from '../domain/model.ts';
import { type ListeningServer, startListening } from './listening.ts';
import type { Metrics } from './metrics.ts';

export interface Readiness {
  readonly ready: boolean;
  /** Why it is not ready, one sentence each; empty when it is. */
  readonly reasons: readonly string[];
}

export interface OperationsServerOptions {
  /** Port 0 takes any free one. */
  readonly listen: Listen;
  readonly metrics: Metrics;
  readonly readiness: (options: { signal: AbortSignal }) => Promise<Readiness>;
  readonly log: Logger;
}

const ANSWER_WITHIN_MS = 10_000;

const INDEX = `kacme
/healthz  200 while the process answers
/readyz   200 when it can do its work, 503 and the reasons when not
/metrics  Prometheus
`;

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/**
 * Health, readiness and metrics for machines. Read-only, without authentication, and never with a secret in
 * it: it is meant for loopback or a management network.
 *
 * Throws `ERR_LISTEN` when it cannot listen there.
 */
export async function startOperationsServer(
  options: OperationsServerOptions,
  { signal }: { signal: AbortSignal },
): Promise<ListeningServer> {
  const { listen, log } = options;
  const server = createServer((request, response) => {
    void respond(options, request, response);
  });
  server.requestTimeout = ANSWER_WITHIN_MS;
  server.headersTimeout = ANSWER_WITHIN_MS;
  const remedy = 'stop what uses this address, or set operations.listen to another one';
  return startListening(server, { listen, name: 'operations server', remedy, log }, { signal });
}

/** Never rejects: what fails is answered with 503, and logged. */
async function respond(
  options: OperationsServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = '', url = '' } = request;
  const [path = ''] = url.split('?');
  let answer: Answer;
  try {
    answer = await answerTo(options, method, path, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  } catch (error) {
    options.log.warn({ err: error, path }, 'operations request failed');
    answer = json(503, { error: reportError(error) });
  }
  if (response.destroyed) return;
  response.writeHead(answer.status, {
    'content-type': answer.contentType,
    'content-length': Buffer.byteLength(answer.body),
    'cache-control': 'no-store',
    ...(answer.status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(method === 'HEAD' ? undefined : answer.body);
}

async function answerTo(
  { metrics, readiness }: OperationsServerOptions,
  method: string,
  path: string,
  { signal }: { signal: AbortSignal },
): Promise<Answer> {
  if (method !== 'GET' && method !== 'HEAD') return text(405, 'only GET and HEAD\n');
  switch (path) {
    case '/':
      return text(200, INDEX);
    case '/healthz':
      return text(200, 'ok\n');
    case '/readyz': {
      const { ready, reasons } = await readiness({ signal });
      return json(ready ? 200 : 503, { ready, reasons });
    }
    case '/metrics': {
      const { contentType, body } = await metrics.render({ signal });
      return { status: 200, contentType, body };
    }
    default:
      return text(404, 'not found\n');
  }
}

function text(status: number, body: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body };
}

function json(status: number, value: unknown): Answer {
  return { status, contentType: 'application/json', body: `${JSON.stringify(value)}\n` };
}
