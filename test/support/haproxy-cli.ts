import { once } from 'node:events';
import { connect } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';

/**
 * One command on a stats or master socket; resolves to the answer. The tests' own client, so that they do not
 * judge kacme by kacme's.
 */
export async function haproxyCommand(socketPath: string, command: string): Promise<string> {
  const socket = connect(socketPath);
  let answer = '';
  socket.setEncoding('utf8').on('data', (chunk) => {
    answer += chunk;
  });
  socket.setTimeout(5_000, () => socket.destroy(new Error(`no answer to "${command}" on ${socketPath}`)));
  socket.end(`${command}\n`);
  await once(socket, 'close');
  return answer.trim();
}

/** A full handshake (no resumption); resolves to the SHA-256 of the leaf served, lower-case hex. */
export function servedFingerprint256(address: string, port: number, servername: string): Promise<string> {
  return leafShown({ host: address, port, servername });
}

/** The ClientHellos of clients that know one kind of key only, as their own TLS libraries send them. */
const CLIENTS = {
  ecdsa: { sigalgs: 'ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384' },
  rsa: { sigalgs: 'rsa_pss_rsae_sha256:rsa_pkcs1_sha256' },
} as const;

/** The same for a client that knows certificates of one key family only. */
export function servedTo(
  family: keyof typeof CLIENTS,
  address: string,
  port: number,
  servername: string,
): Promise<string> {
  return leafShown({ host: address, port, servername, ...CLIENTS[family] });
}

async function leafShown(options: ConnectionOptions): Promise<string> {
  const socket = connectTls({ rejectUnauthorized: false, ...options });
  try {
    socket.setTimeout(5_000, () =>
      socket.destroy(new Error(`no handshake at ${options.host}:${options.port} within 5 s`)),
    );
    await once(socket, 'secureConnect');
    return socket.getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase();
  } finally {
    socket.destroy();
  }
}
