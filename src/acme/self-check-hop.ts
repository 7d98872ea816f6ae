import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';

/** One answer on the way of a self-check. */
export interface Hop {
  readonly status: number;
  readonly location: string | undefined;
  /** Its beginning: a key authorization has less than 200 characters. */
  readonly body: string;
}

const MAX_BODY_BYTES = 4_096;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export const isRedirect = (hop: Hop): hop is Hop & { readonly location: string } =>
  REDIRECTS.has(hop.status) && hop.location !== undefined;

/**
 * Asks `url` on a connection of its own. With `via`, connects there instead: to its port for http, to the port of
 * `url` for https. Rejects as node:http does.
 */
export async function fetchHop(url: URL, via: URL | undefined, signal: AbortSignal): Promise<Hop> {
  const secure = url.protocol === 'https:';
  const name = bare(url.hostname);
  const options: RequestOptions = {
    host: via === undefined ? name : bare(via.hostname),
    port: portOf(via === undefined || secure ? url : via),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, 'user-agent': 'kacme self-check', accept: '*/*' },
    agent: false,
    signal,
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = secure
      ? // The CA does not check it either: the certificate is what is being asked for.
        requestHttps({ ...options, rejectUnauthorized: false, servername: isIP(name) === 0 ? name : '' })
      : requestHttp(options);
    outgoing.once('response', resolve).on('error', reject).end();
  });
  return {
    status: response.statusCode ?? 0,
    location: response.headers.location,
    body: await beginningOf(response),
  };
}

async function beginningOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  // Leaving the loop early destroys the response, and its connection.
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_BODY_BYTES) break;
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** An IPv6 address without its brackets. */
const bare = (hostname: string): string => hostname.replace(/^\[|\]$/g, '');

const portOf = (url: URL): string => url.port || (url.protocol === 'https:' ? '443' : '80');
