import { createServer, type Server as TcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import { Server } from 'ssh2';
import { SimulatedFiles } from './files.ts';
import { type HaproxyCounts, SimulatedHaproxy } from './haproxy.ts';
import { serveSftp } from './sftp-server.ts';

export interface SimulatedHostOptions {
  readonly address: string;
  readonly sshPort: number;
  readonly tlsPort: number;
  /** OpenSSH format, PEM. */
  readonly hostKey: string;
  /** Where the bundle lies, and what is there at first. */
  readonly path: string;
  readonly pem: string;
}

export interface Counts extends HaproxyCounts {
  logins: number;
  handshakes: number;
  commits: number;
  /** Milliseconds since 1970. */
  lastCommitMs: number;
}

/**
 * A HAProxy host that takes no process of its own: sshd's protocol, with SFTP and a forwarded socket, HAProxy's protocol
 * behind it, and TLS handshakes with what HAProxy has in memory.
 */
export async function startSimulatedHost(
  { address, sshPort, tlsPort, hostKey, path, pem }: SimulatedHostOptions,
  counts: Counts,
): Promise<void> {
  let context = contextOf(pem);
  const files = new SimulatedFiles(path.slice(0, path.lastIndexOf('/')));
  const file = files.create(path, 0o600);
  if (file !== undefined) files.write(file, 0, Buffer.from(pem));
  const haproxy = new SimulatedHaproxy(
    { path, pem },
    {
      counts,
      onCommit: (committed) => {
        context = contextOf(committed);
        counts.commits += 1;
        counts.lastCommitMs = Date.now();
      },
    },
  );
  const sshd = new Server({ hostKeys: [hostKey] }, (client) => {
    client.on('authentication', (login) => (login.method === 'publickey' ? login.accept() : login.reject()));
    client.on('ready', () => {
      counts.logins += 1;
      client.on('session', (accept) => {
        // Not ssh2's own SFTP server: it offers no extensions.
        accept().on('subsystem', (open, refuse, { name }) => {
          if (name === 'sftp') serveSftp(quiet(open()), files);
          else refuse();
        });
      });
      client.on('openssh.streamlocal', (accept) => haproxy.serve(quiet(accept())));
    });
    client.on('error', () => {});
  });
  // As sshd and HAProxy do: otherwise each answer waits for an acknowledgement that is delayed by 40 ms.
  const noDelay = true;
  const tcp = createServer({ noDelay }, (socket) => sshd.injectSocket(socket));
  const tls = createServer({ noDelay }, (socket) => {
    const secured = new TLSSocket(quiet(socket), { isServer: true, secureContext: context });
    quiet(secured).resume();
    secured.once('secure', () => {
      counts.handshakes += 1;
    });
    secured.once('end', () => secured.end());
  });
  await Promise.all([listening(tcp, sshPort, address), listening(tls, tlsPort, address)]);
}

/** A client may leave whenever it likes. */
function quiet<T extends Duplex>(stream: T): T {
  stream.on('error', () => stream.destroy());
  return stream;
}

/** Every host gets the same bundle. */
const contexts = new Map<string, SecureContext>();

function contextOf(pem: string): SecureContext {
  // No sessions to be resumed: every handshake is a full one.
  const context = contexts.get(pem) ?? createSecureContext({ cert: pem, key: pem, ca: [] });
  contexts.set(pem, context);
  return context;
}

function listening(server: TcpServer, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, () => resolve());
  });
}
