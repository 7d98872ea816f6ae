import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Socket } from 'node:net';
import type { buildConnector } from 'undici';
import type { IssuerSpec } from '../domain/model.ts';
import type { ReadSecret } from './account.ts';
import { readNetworkFailure } from './network-failure.ts';

/** Where the way to a CA begins. */
export interface HttpProxy {
  readonly url: string;
  /** The value of Proxy-Authorization (RFC 9110 section 11.7.2). Never logged. */
  readonly authorization: string | undefined;
}

/** Throws `ERR_SECRET_UNREADABLE`. */
export async function readProxy(
  { proxy }: IssuerSpec,
  readSecret: ReadSecret,
  { signal }: { signal: AbortSignal },
): Promise<HttpProxy | undefined> {
  if (proxy === undefined) return undefined;
  const { url, credentials } = proxy;
  if (credentials === undefined) return { url, authorization: undefined };
  const password = await readSecret(credentials.password, { signal });
  const basic = Buffer.from(`${credentials.user}:${password}`).toString('base64');
  return { url, authorization: `Basic ${basic}` };
}

/** The proxy is in the way: the CA was not reached. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError';
  /** HTTP status of its refusal; undefined when it did not answer at all. */
  readonly status: number | undefined;

  constructor(
    message: string,
    { status, ...options }: ErrorOptions & { readonly status: number | undefined },
  ) {
    super(message, options);
    this.status = status;
  }
}

export interface TunnelOptions {
  /** Makes a TLS session with the CA over a connection that exists. */
  readonly secure: buildConnector.connector;
  readonly timeoutMs: number;
  /** Ends attempts under way. */
  readonly signal: AbortSignal;
}

/**
 * Connects through the proxy with CONNECT (RFC 9110 section 9.3.6), so that it sees host and port of the CA, and
 * nothing of what is said. Gives `ProxyError` when it is the proxy that fails.
 */
export function tunnelThrough(
  proxy: HttpProxy,
  { secure, timeoutMs, signal }: TunnelOptions,
): buildConnector.connector {
  return (target, callback) => {
    const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    openTunnel(proxy, target, within).then(
      (httpSocket) => secure({ ...target, httpSocket }, callback),
      (error) => callback(error, null),
    );
  };
}

function openTunnel(
  { url, authorization }: HttpProxy,
  { hostname, port }: buildConnector.Options,
  signal: AbortSignal,
): Promise<Socket> {
  const { protocol, hostname: host, port: proxyPort } = new URL(url);
  const authority = `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port || '443'}`;
  const options: RequestOptions = {
    method: 'CONNECT',
    host: host.replace(/^\[|\]$/g, ''),
    port: proxyPort || (protocol === 'https:' ? 443 : 80),
    path: authority,
    headers: {
      host: authority,
      ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }),
    },
    agent: false,
    signal,
  };
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) =>
      reject(
        new ProxyError(`the proxy ${url} cannot be used: ${readNetworkFailure(error).reason}`, {
          status: undefined,
          cause: error,
        }),
      );
    const connecting = protocol === 'https:' ? requestHttps(options) : requestHttp(options);
    const judge = (response: IncomingMessage, socket: Socket) => {
      const { statusCode: status = 0, statusMessage } = response;
      if (status >= 200 && status < 300) return resolve(socket);
      socket.destroy();
      const words = [status, statusMessage].filter(Boolean).join(' ');
      reject(
        new ProxyError(`the proxy ${url} refused to connect to ${authority}: HTTP ${words}`, { status }),
      );
    };
    connecting.once('connect', judge).once('error', fail).end();
  });
}
