import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';

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

/** Where a connection goes, when not to the host of the URL. */
export interface Destination {
  readonly host: string;
  /** Of http; https goes to the port of its URL. Undefined: that of the URL here too. */
  readonly httpPort: string | undefined;
}

/**
 * Asks `url` on a connection of its own, made to `destination` if there is one, else to an address that `lookup` gives
 * (the system's resolver when undefined). Rejects as node:http and `lookup` do.
 */
export async function fetchHop(
  url: URL,
  { destination, lookup }: { destination: Destination | undefined; lookup: LookupFunction | undefined },
  { signal }: { signal: AbortSignal },
): Promise<Hop> {
  const secure = url.protocol === 'https:';
  const name = bare(url.hostname);
  const options: RequestOptions = {
    host: destination?.host ?? name,
    port: secure ? portOf(url) : (destination?.httpPort ?? portOf(url)),
    // The name of a destination is ours, not the CA's: /etc/hosts counts.
    ...(lookup === undefined || destination !== undefined ? {} : { lookup }),
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
export const bare = (hostname: string): string => hostname.replace(/^\[|\]$/g, '');

export const portOf = (url: URL): string => url.port || (url.protocol === 'https:' ? '443' : '80');
