import { setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Dispatcher } from 'undici';
import { KacmeError, reportError } from '../domain/errors.ts';
import type { Clock } from '../ports/clock.ts';
import { Deadline } from './deadline.ts';
import { linkTargets } from './link.ts';
import { type NetworkFailure, readNetworkFailure } from './network-failure.ts';
import { AcmeProblemError, problemError, readProblem } from './problem.ts';
import { ProxyError } from './proxy.ts';
import { parseRetryAfter } from './retry-after.ts';

/** What a request is about, in the nouns of RFC 8555 section 7.1. */
export type AcmeResource =
  | 'directory'
  | 'newNonce'
  | 'newAccount'
  | 'account'
  | 'keyChange'
  | 'revokeCert'
  | 'newOrder'
  | 'order'
  | 'authorization'
  | 'challenge'
  | 'finalize'
  | 'certificate'
  | 'renewalInfo';

export interface AcmeRequest {
  readonly resource: AcmeResource;
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: string;
  /** A signed JWS. Never logged. */
  readonly body?: string;
  readonly accept?: string;
  /** URL of the CA's terms by its directory, for an answer that they changed. */
  readonly termsOfService?: string | undefined;
}

/** An answer below HTTP 300; everything else is thrown. */
export interface AcmeResponse {
  readonly request: AcmeRequest;
  readonly status: number;
  readonly body: string;
  /** From Retry-After. */
  readonly notBefore: Date | undefined;
  /** One header by its lower-case name; the first where it is repeated. */
  header(name: string): string | undefined;
  /** Each time it stands in the answer. */
  headers(name: string): readonly string[];
}

export interface AcmeTransportOptions {
  readonly issuer: string;
  /** Asked before each request. */
  readonly dispatcher: () => Dispatcher;
  /** Bound of one request, from its start to the end of its body. */
  readonly timeoutMs: number;
  /** Whether everything goes over https (RFC 8555 section 6.1), as the directory does. */
  readonly secure: boolean;
  readonly userAgent: string;
  /** For messages. */
  readonly proxyUrl: string | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** For the counter of ACME requests: `result` is `ok` or an error code. */
  readonly onRequest: ((issuer: string, result: string) => void) | undefined;
}

/** More than a CA that hands out one per answer can use; the oldest go. */
const KEPT_NONCES = 16;

/** HTTP as ACME needs it: bounded, abortable, with typed errors, and a pool of the nonces that answers carry. */
export class AcmeTransport {
  readonly #options: AcmeTransportOptions;
  readonly #nonces: string[] = [];

  constructor(options: AcmeTransportOptions) {
    this.#options = options;
  }

  /** The newest nonce (RFC 8555 section 6.5): old ones may have expired. Undefined when newNonce must be asked. */
  takeNonce(): string | undefined {
    return this.#nonces.pop();
  }

  /**
   * Sends once. Throws `AcmeProblemError`, `ERR_ACME_UNREACHABLE`, `ERR_ACME_PROXY`, `ERR_ACME_TIMEOUT`,
   * `ERR_ACME_MALFORMED`, or `signal.reason`.
   */
  async send(request: AcmeRequest, { signal }: { signal: AbortSignal }): Promise<AcmeResponse> {
    const { clock, log, issuer, onRequest } = this.#options;
    const startedMs = clock.monotonicMs();
    const { resource, method, url } = request;
    const tell = (result: string, fields: object) => {
      const durationMs = Math.round(clock.monotonicMs() - startedMs);
      log.debug({ resource, method, url, durationMs, result, ...fields }, 'ACME request');
      onRequest?.(issuer, result);
    };
    try {
      const response = await this.#exchange(request, { signal });
      tell('ok', { status: response.status });
      return response;
    } catch (error) {
      const problem = error instanceof AcmeProblemError ? { status: error.status, problem: error.type } : {};
      tell(reportError(error).code, { reason: error instanceof Error ? error.message : error, ...problem });
      throw error;
    }
  }

  async #exchange(request: AcmeRequest, { signal }: { signal: AbortSignal }): Promise<AcmeResponse> {
    const { dispatcher, timeoutMs, secure, userAgent, proxyUrl, clock } = this.#options;
    const deadline = new Deadline(timeoutMs, { signal });
    let phase: 'answer' | 'body' = 'answer';
    try {
      const { protocol, origin, pathname, search } = new URL(request.url);
      if (protocol !== 'https:' && secure) {
        throw malformedError(request, 'its URL, which the CA gave, does not begin with https:');
      }
      const answer = await dispatcher().request({
        origin,
        path: `${pathname}${search}`,
        method: request.method,
        headers: {
          'user-agent': userAgent,
          accept: request.accept ?? 'application/json',
          ...(request.body === undefined ? {} : { 'content-type': 'application/jose+json' }),
        },
        body: request.body ?? null,
        // undici closes the connection after each HEAD unless it is told not to and the CA says keep-alive too.
        reset: false,
        headersTimeout: 0,
        bodyTimeout: 0,
        signal: deadline.signal,
      });
      const headers = (name: string): readonly string[] => [answer.headers[name] ?? []].flat();
      const header = (name: string): string | undefined => headers(name)[0];
      this.#keepNonce(header('replay-nonce'));
      phase = 'body';
      const body = await answer.body.text();
      // undici takes a connection for busy until the loop has turned, and would open another one for the next request.
      await setImmediate();
      const notBefore = parseRetryAfter(header('retry-after'), clock.now());
      const response = { request, status: answer.statusCode, body, notBefore, header, headers };
      return accept(response, clock.now());
    } catch (error) {
      if (error instanceof KacmeError) throw error;
      signal.throwIfAborted();
      if (deadline.expired) throw timeoutError(request, { timeoutMs, proxyUrl });
      throw networkError(request, { phase, proxied: proxyUrl !== undefined }, error);
    } finally {
      deadline.clear();
    }
  }

  #keepNonce(nonce: string | undefined): void {
    if (nonce === undefined || !/^[A-Za-z0-9_-]+$/.test(nonce)) return;
    this.#nonces.push(nonce);
    if (this.#nonces.length > KEPT_NONCES) this.#nonces.shift();
  }
}

/** `newOrder https://ca.example/order`, as messages begin. */
export const describeRequest = ({ resource, url }: AcmeRequest): string => `${resource} ${url}`;

function accept(response: AcmeResponse, now: Date): AcmeResponse {
  const { request, status, body, notBefore } = response;
  if (status < 300) return response;
  if (status < 400) {
    throw malformedError(
      request,
      `it redirects (HTTP ${status}) to ${response.header('location') ?? 'nowhere'}`,
    );
  }
  const [termsOfService = request.termsOfService] = linkTargets(
    response.headers('link'),
    'terms-of-service',
    request.url,
  );
  const context = { request: describeRequest(request), url: request.url, status, notBefore, termsOfService };
  const problem = readProblem(parseJson(body));
  if (problem !== undefined) throw problemError(problem, context, now);
  // A load balancer speaks for the CA, or the CA for once in no words: the status is all there is to go by.
  const gone = status === 404 && request.resource === 'order';
  if (status === 429 || status >= 500 || gone) {
    const detail = `no problem document, but ${quote(body)}`;
    throw problemError({ type: `http${status}`, detail, instance: undefined, subproblems: [] }, context, now);
  }
  throw malformedError(request, `HTTP ${status} without a problem document, but ${quote(body)}`);
}

/** Undefined when it is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The beginning of an answer, fit for one line of a log. */
export function quote(body: string): string {
  if (body.trim() === '') return 'an empty answer';
  const line = body.replace(/[^\x20-\x7e]+/g, ' ').trim();
  return `"${line.length > 100 ? `${line.slice(0, 100)}...` : line}"`;
}

/** The CA answered something that RFC 8555 does not allow. */
export function malformedError(request: AcmeRequest, why: string, options?: ErrorOptions): KacmeError {
  return new KacmeError('ERR_ACME_MALFORMED', `${describeRequest(request)}: not an ACME answer: ${why}`, {
    ...options,
    retry: 'later',
    remedy:
      "check that the issuer's directory is the URL of an ACME directory and that no proxy answers for it",
  });
}

function timeoutError(
  request: AcmeRequest,
  { timeoutMs, proxyUrl }: Pick<AcmeTransportOptions, 'timeoutMs' | 'proxyUrl'>,
): KacmeError {
  const through = proxyUrl === undefined ? '' : ` through the proxy ${proxyUrl}`;
  return new KacmeError(
    'ERR_ACME_TIMEOUT',
    `${describeRequest(request)}: no complete answer within ${timeoutMs} ms${through}`,
    {
      retry: 'later',
      remedy: "ask whether the CA is up; a slow one needs a longer timeout in the issuer's settings",
    },
  );
}

function networkError(
  request: AcmeRequest,
  { phase, proxied }: { phase: 'answer' | 'body'; proxied: boolean },
  cause: unknown,
): KacmeError {
  if (cause instanceof ProxyError) return proxyError(request, cause);
  const failure = readNetworkFailure(cause);
  if (phase === 'body') return malformedError(request, `it breaks off: ${failure.reason}`, { cause });
  if (failure.kind === 'protocol') return malformedError(request, failure.reason, { cause });
  return new KacmeError('ERR_ACME_UNREACHABLE', `${describeRequest(request)}: ${failure.reason}`, {
    cause,
    retry: 'later',
    remedy: proxied ? REMEDIES[failure.kind] : `${REMEDIES[failure.kind]}${unusedProxy()}`,
  });
}

/** Others take the proxy from the environment; kacme has one for each issuer, or none. */
function unusedProxy(): string {
  const name = ['HTTPS_PROXY', 'https_proxy'].find((name) => (process.env[name] ?? '') !== '');
  return name === undefined ? '' : `; kacme does not use ${name}: set the issuer's proxy if one is needed`;
}

function proxyError(request: AcmeRequest, cause: ProxyError): KacmeError {
  const { status } = cause;
  return new KacmeError('ERR_ACME_PROXY', `${describeRequest(request)}: ${cause.message}`, {
    cause,
    // What a proxy allows is up to people.
    retry: status !== undefined && status >= 400 && status < 500 ? 'never' : 'later',
    remedy: proxyRemedy(status),
  });
}

function proxyRemedy(status: number | undefined): string {
  if (status === undefined) return "check the issuer's proxy: its URL, and that it runs";
  if (status === 407) return "correct user and password of the issuer's proxy";
  if (status < 500) return 'let the proxy allow CONNECT to this host and port';
  return 'see in the log of the proxy why it cannot reach the CA';
}

const REMEDIES: Readonly<Record<Exclude<NetworkFailure['kind'], 'protocol'>, string>> = {
  trust: "set the issuer's caFile to the root of the CA's own HTTPS certificate (not of what it issues)",
  unreachable: 'check the directory URL, DNS, and that this machine may reach the CA',
};
