import { BlockList, isIP, isIPv6 } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { familyName } from '../domain/dual.ts';
import { HostError } from '../domain/host-error.ts';
import type { HostSpec, KeyFamily, VerifySpec } from '../domain/model.ts';
import type { Verification, VerificationRequest } from '../ports/haproxy-host.ts';
import type { HostSession } from '../ports/host-session.ts';

interface Target {
  readonly address: string;
  readonly port: number;
  /** As an operator would write it. */
  readonly label: string;
  /** An address of the host itself: on another one somebody else may answer. */
  readonly ofHost: boolean;
}

type Presented = { readonly fingerprint256: string } | { readonly failure: string };

/** What handshakes start over that do not start here. */
type VerifyingSession = Pick<HostSession, 'connectTcp' | 'closed'> | undefined;

/**
 * Full TLS handshakes, side by side, with every `connect` entry: each must present the leaf that is
 * asked for. They start where `verify.through` says, over `session` unless that is here. Several per entry, since an
 * old worker that still listens takes only some of the connections. The chain is not judged here: a self-signed bundle
 * is verified likewise. Throws only `signal.reason`, and why the session they start over was lost: that says nothing of
 * HAProxy.
 */
export async function verifyHandshakes(
  verify: VerifySpec,
  host: HostSpec,
  request: VerificationRequest,
  { signal, session }: { signal: AbortSignal; session: VerifyingSession },
): Promise<Verification> {
  if (verify.connect.length === 0 || verify.handshakes === 0) {
    return { state: 'unverified', reason: 'the pool names no address to connect to (verify.connect)' };
  }
  const handshakes = request.handshakes ?? verify.handshakes;
  const targets = verify.connect.map((template) => verificationTarget(template, host, verify.through));
  const { timeoutMs } = verify;
  const options = { timeoutMs, dial: dialThrough(verify, session), lost: session?.closed, signal };
  const results = await Promise.all(
    targets.map(async (target) => ({
      target,
      presented: await Promise.all(
        Array.from({ length: handshakes }, () => handshake(target, request, options)),
      ),
    })),
  );
  const failures = results
    .map(({ target, presented }) => describeFailure(target, presented, request))
    .filter((reason) => reason !== undefined);
  if (failures.length > 0) {
    const answered = results.some(
      ({ target, presented }) => target.ofHost && presented.some((one) => 'fingerprint256' in one),
    );
    return { state: 'failed', reason: failures.join('; '), answered };
  }
  return { state: 'verified', handshakes: targets.length * handshakes };
}

/** Puts the host's address into `{host}`; IPv6 gets its brackets whether the template has them or not. */
export function verificationTarget(template: string, host: HostSpec, through: VerifySpec['through']): Target {
  const address = isIPv6(host.address) ? `[${host.address}]` : host.address;
  const label = template.replace(/\[\{host\}\]|\{host\}/, () => address);
  const separator = label.lastIndexOf(':');
  const target = label.slice(0, separator).replace(/^\[(.*)\]$/, '$1');
  return {
    address: target,
    port: Number(label.slice(separator + 1)),
    label,
    ofHost: template.includes('{host}') || (through === 'host' && isLoopback(target)),
  };
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

const isLoopback = (address: string): boolean =>
  address === 'localhost' || LOOPBACK.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');

/**
 * OpenSSL's names (SSL_CTX_set1_sigalgs_list(3)). PKCS#1 v1.5 signs no handshake of TLS 1.3, but HAProxy 2.6 turns
 * down whoever lists PSS alone.
 */
const SIGNATURE_ALGORITHMS: Readonly<Record<KeyFamily, string>> = {
  ecdsa: 'ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512',
  rsa: 'RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512',
};

/** One for all handshakes, which saves each a third of its time; it holds no roots, since no chain is judged. */
const sharedContexts = new Map<KeyFamily | undefined, SecureContext>();

function sharedContext(family: KeyFamily | undefined): SecureContext {
  const known = sharedContexts.get(family);
  if (known !== undefined) return known;
  const sigalgs = family === undefined ? {} : { sigalgs: SIGNATURE_ALGORITHMS[family] };
  const context = createSecureContext({ ca: [], ...sigalgs });
  sharedContexts.set(family, context);
  return context;
}

/** Undefined: straight from here. */
type Dial =
  | ((target: Target, options: { signal: AbortSignal; timeoutMs: number }) => Promise<Duplex>)
  | undefined;

function dialThrough({ through = 'direct' }: VerifySpec, session: VerifyingSession): Dial {
  if (through === 'direct' || session === undefined) return undefined;
  return (target, options) => session.connectTcp(through, target, options);
}

async function handshake(
  target: Target,
  request: VerificationRequest,
  options: { timeoutMs: number; dial: Dial; lost: AbortSignal | undefined; signal: AbortSignal },
): Promise<Presented> {
  if (options.dial === undefined)
    return shakeHands({ host: target.address, port: target.port }, request, options);
  let stream: Duplex | undefined;
  try {
    stream = await options.dial(target, options);
    const presented = await shakeHands({ socket: stream }, request, options);
    if ('failure' in presented) options.lost?.throwIfAborted();
    return presented;
  } catch (error) {
    options.signal.throwIfAborted();
    options.lost?.throwIfAborted();
    return { failure: describeError(error, undefined) };
  } finally {
    stream?.destroy();
  }
}

async function shakeHands(
  over: { readonly host: string; readonly port: number } | { readonly socket: Duplex },
  { servername, family }: VerificationRequest,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<Presented> {
  // RFC 6066 section 3: an address is not permitted as SNI.
  const sni = isIP(servername) === 0 ? { servername } : {};
  const socket = connect({
    ...over,
    ...sni,
    rejectUnauthorized: false,
    secureContext: sharedContext(family),
  });
  try {
    await secured(socket, { timeoutMs, signal });
    // Not `getPeerX509Certificate`: what OpenSSL holds for it is given back by a full collection only.
    const { fingerprint256: fingerprint } = socket.getPeerCertificate();
    if (fingerprint === undefined) return { failure: 'no certificate was presented' };
    return { fingerprint256: fingerprint.replaceAll(':', '').toLowerCase() };
  } catch (error) {
    signal.throwIfAborted();
    return { failure: describeError(error, family) };
  } finally {
    socket.destroySoon();
  }
}

/** What OpenSSL says has several lines and the number of a thread; `reason` is the part for people. */
function describeError(error: unknown, family: KeyFamily | undefined): string {
  if (!(error instanceof Error)) return String(error);
  // Of the connection over SSH: what sshd does not allow has to be allowed there.
  if (error instanceof HostError) return [error.reason, error.remedy ?? []].flat().join(': ');
  const reason = 'reason' in error && typeof error.reason === 'string' ? error.reason : error.message;
  const refused = 'code' in error && String(error.code).endsWith('ALERT_HANDSHAKE_FAILURE');
  if (family === undefined || !refused) return reason;
  return `${reason}: it has no ${familyName(family)} certificate for this name`;
}

async function secured(
  socket: TLSSocket,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const giveUp = (reason: unknown) => {
        socket.destroy();
        reject(reason);
      };
      // Stays: a reset after the handshake is of no interest, and must not end the process.
      socket.on('error', reject);
      onAbort = () => giveUp(signal.reason);
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      timer = setTimeout(() => giveUp(new Error(`no handshake within ${timeoutMs} ms`)), timeoutMs);
      socket.once('secureConnect', resolve);
      socket.once('close', () => reject(new Error('the connection closed during the handshake')));
    });
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}

function describeFailure(
  { label }: Target,
  presented: readonly Presented[],
  { fingerprint256: expected, family }: VerificationRequest,
): string | undefined {
  const others = presented.flatMap((one) =>
    'fingerprint256' in one && one.fingerprint256 !== expected ? [one.fingerprint256] : [],
  );
  const failures = presented.flatMap((one) => ('failure' in one ? [one.failure] : []));
  const total = presented.length;
  const offering = family === undefined ? '' : `${familyName(family)}-only `;
  const handshakes = `${offering}${total === 1 ? 'handshake' : 'handshakes'}`;
  if (failures.length > 0) {
    return `${failures.length} of ${total} ${handshakes} with ${label} failed: ${[...new Set(failures)].join(', ')}`;
  }
  if (others.length === 0) return undefined;
  const hint = others.length < total ? ': an old worker may still be listening' : '';
  const seen = [...new Set(others)].map(short).join(', ');
  return `${others.length} of ${total} ${handshakes} with ${label} presented SHA-256 ${seen}, expected ${short(expected)}${hint}`;
}

/** Enough of a fingerprint for people to compare. */
function short(fingerprint: string): string {
  return `${fingerprint.slice(0, 12)}...`;
}
