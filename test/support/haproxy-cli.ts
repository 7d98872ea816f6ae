import { once } from 'node:events';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

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
export async function servedFingerprint256(
  address: string,
  port: number,
  servername: string,
): Promise<string> {
  const socket = connectTls({ host: address, port, servername, rejectUnauthorized: false });
  try {
    socket.setTimeout(5_000, () =>
      socket.destroy(new Error(`no handshake at ${address}:${port} within 5 s`)),
    );
    await once(socket, 'secureConnect');
    return socket.getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase();
  } finally {
    socket.destroy();
  }
}
