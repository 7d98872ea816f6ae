import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { loopbackAddress } from './net.ts';
import { testCa } from './pem.ts';

export interface ConnectProxyOptions {
  /** `user:password` that it asks for. */
  readonly credentials?: string;
  /** It refuses with this status instead of connecting. */
  readonly refusal?: number;
  /** It takes connections and never answers. */
  readonly silent?: boolean;
  /** It speaks TLS itself, with a certificate that nobody trusts. */
  readonly secure?: boolean;
}

export interface ConnectProxy extends AsyncDisposable {
  readonly url: string;
  /** `host:port` of every tunnel that was asked for. */
  readonly asked: readonly string[];
  /** The first bytes that went through each tunnel, as text. */
  readonly passed: readonly string[];
  /** From now on it asks for this `user:password`. */
  demand(credentials: string): void;
  close(): Promise<void>;
}

/** A real HTTP proxy for CONNECT (RFC 9110 section 9.3.6) on a loopback address of its own. */
export async function startConnectProxy(options: ConnectProxyOptions = {}): Promise<ConnectProxy> {
  const address = loopbackAddress();
  const asked: string[] = [];
  const passed: string[] = [];
  const sockets = new Set<Socket>();
  let { credentials } = options;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
  };
  const tunnel = (request: IncomingMessage, client: Socket) => {
    const authority = request.url ?? '';
    asked.push(authority);
    const refuse = (status: number, headers = '') =>
      void client.end(`HTTP/1.1 ${status} No Tunnel\r\n${headers}content-length: 0\r\n\r\n`);
    if (options.silent === true) return;
    if (options.refusal !== undefined) return refuse(options.refusal);
    if (!isAllowed(request, credentials)) return refuse(407, 'proxy-authenticate: Basic realm="proxy"\r\n');
    const { hostname, port } = new URL(`http://${authority}`);
    const upstream = connect({ host: hostname, port: Number(port) }, () => {
      client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      client.once('data', (bytes: Buffer) => passed.push(bytes.toString('latin1')));
      client.pipe(upstream).pipe(client);
    });
    keep(upstream);
    upstream.once('error', () => client.writable && refuse(502));
  };
  const own = testCa('Nobody').issue([address]);
  const server =
    options.secure === true ? createHttpsServer({ cert: own.certPem, key: own.keyPem }) : createServer();
  server.on('connect', tunnel).on('connection', keep);
  server.listen(0, address);
  await once(server, 'listening');
  const close = async () => {
    if (!server.listening) return;
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, 'close');
  };
  const scheme = options.secure === true ? 'https' : 'http';
  return {
    url: `${scheme}://${address}:${(server.address() as AddressInfo).port}`,
    asked,
    passed,
    demand: (wanted) => {
      credentials = wanted;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function isAllowed({ headers }: IncomingMessage, credentials: string | undefined): boolean {
  if (credentials === undefined) return true;
  return headers['proxy-authorization'] === `Basic ${Buffer.from(credentials).toString('base64')}`;
}
