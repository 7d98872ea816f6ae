import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createSecureContext, type SecureVersion } from 'node:tls';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface Presented {
  /** SHA-256 of the leaf, lower-case hex. */
  readonly fingerprint256: string;
  readonly names: readonly string[];
}

/** No chain is judged, so it needs no roots: parsing them would take longer than the handshake. */
const context = createSecureContext({ ca: [] });

/** A full handshake on a new connection. The bench's own, so that kacme's is not judged by itself. */
export async function presentedAt({ address, port }: Endpoint, servername: string): Promise<Presented> {
  const socket = connect({
    host: address,
    port,
    servername,
    rejectUnauthorized: false,
    secureContext: context,
  });
  try {
    socket.setTimeout(5_000, () =>
      socket.destroy(new Error(`no handshake at ${address}:${port} within 5 s`)),
    );
    await once(socket, 'secureConnect');
    const { fingerprint256, subjectaltname = '' } = socket.getPeerCertificate();
    return {
      fingerprint256: fingerprint256.replaceAll(':', '').toLowerCase(),
      names: subjectaltname.split(', ').map((name) => name.replace(/^DNS:/, '')),
    };
  } finally {
    socket.destroy();
  }
}

/** Whether a host lets a client take up the TLS session of its connection before. */
export async function resumes(endpoint: Endpoint): Promise<boolean> {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { session } = await visit(endpoint, version, undefined);
    if (session !== undefined && (await visit(endpoint, version, session)).reused) return true;
  }
  return false;
}

/** To the end of an answer: TLS 1.3 gives its tickets after the handshake (RFC 8446 section 4.6.1). */
async function visit(
  { address, port }: Endpoint,
  version: SecureVersion,
  session: Buffer | undefined,
): Promise<{ readonly session: Buffer | undefined; readonly reused: boolean }> {
  const socket = connect({
    host: address,
    port,
    rejectUnauthorized: false,
    minVersion: version,
    maxVersion: version,
    ...(session === undefined ? {} : { session }),
  });
  try {
    let given: Buffer | undefined;
    socket.on('session', (one: Buffer) => {
      given = one;
    });
    socket.setTimeout(5_000, () => socket.destroy(new Error(`no answer from ${address}:${port} within 5 s`)));
    await once(socket, 'secureConnect');
    const reused = socket.isSessionReused();
    socket.end('GET / HTTP/1.0\r\n\r\n');
    socket.resume();
    await once(socket, 'end');
    return { session: given, reused };
  } finally {
    socket.destroy();
  }
}

/** Between two handshakes with a host that still presents another leaf: a tenth of one core, then. */
const PAUSE_MS = 15;
const WITHIN_MS = 30_000;

/**
 * Resolves to the moment (milliseconds since 1970) at which the last of `endpoints` was seen to present the leaf.
 * One handshake at a time, and at one host until that one presents it: this shares the machine with what it
 * measures. It tells the moment up to `PAUSE_MS` and some 2 ms a host too late.
 */
export async function untilAllPresent(
  endpoints: readonly Endpoint[],
  servername: string,
  fingerprint256: string,
  { signal }: { signal: AbortSignal },
): Promise<number> {
  const deadlineMs = performance.now() + WITHIN_MS;
  for (const endpoint of endpoints) {
    while ((await presentedAt(endpoint, servername)).fingerprint256 !== fingerprint256) {
      if (performance.now() > deadlineMs) {
        throw new Error(`${endpoint.address} does not present the new leaf after ${WITHIN_MS} ms`);
      }
      await sleep(PAUSE_MS, undefined, { signal });
    }
  }
  return Date.now();
}
