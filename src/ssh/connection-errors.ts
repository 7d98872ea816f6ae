import type { Retry } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { SecretRef } from '../domain/model.ts';
import { endpointText } from './host-label.ts';
import { secretName } from './identity.ts';
import {
  fingerprintOf,
  type HostKeyVerdict,
  hostKeyType,
  type KnownHosts,
  type PinnedKey,
} from './known-hosts.ts';

/** An sshd to connect to. */
export interface Endpoint {
  /** How its errors call it, such as `pool/host (10.0.0.11:22)`. */
  readonly label: string;
  /** How `kacme hosts scan` calls it. */
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** What is expected to listen there, where that is no sshd. */
  readonly listener?: string;
  /** Another name that its key may be pinned under. */
  readonly hostKeyName?: string | undefined;
  /** Bound of TCP connect, handshake and login together, without the wait for a turn. */
  readonly connectTimeoutMs: number;
}

/** An sshd to log in to. */
export interface SshTarget extends Endpoint {
  readonly user: string;
  readonly identity: SecretRef;
}

/** How far a connection has come. */
export type Phase = 'connect' | 'await the SSH banner' | 'exchange keys' | 'log in' | 'session';

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused, nothing listens there',
  EHOSTUNREACH: 'no route to the host, or it is down',
  ENETUNREACH: 'no route to the network',
  ETIMEDOUT: 'no answer, packets are dropped or the host is down',
  ECONNRESET: 'the connection was reset by the other side',
  EPIPE: 'the connection was closed by the other side',
  ENOTFOUND: 'the name does not exist in DNS',
  EAI_AGAIN: 'the name server does not answer',
  EADDRNOTAVAIL: 'this machine has no address to connect from',
};

/** The reason in words, for an error of the socket, of ssh2, or of the name lookup. */
export function wordsOf(error: Error): string {
  // A host with several addresses fails with one error for each.
  const inner: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = inner instanceof Error && 'code' in inner ? inner.code : undefined;
  const words = typeof code === 'string' ? REASONS[code] : undefined;
  if (words !== undefined) return `${words} (${code})`;
  return error.message;
}

export function unreachable(target: Endpoint, phase: Phase, reason: string, cause?: Error): HostError {
  return new HostError('ERR_HOST_UNREACHABLE', {
    host: target.label,
    step: phase,
    reason,
    retry: 'later',
    remedy: `see that the host is up and that an sshd listens at ${endpointText(target)}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The server hung up before it said who it is: mostly sshd's MaxStartups. Worth another attempt. */
export function droppedEarly(target: Endpoint, heard: string, cause?: Error): HostError {
  const said = heard === '' ? '' : `, after saying ${JSON.stringify(heard)}`;
  return new HostError('ERR_HOST_UNREACHABLE', {
    host: target.label,
    step: 'await the SSH banner',
    reason: `the server closed the connection before the handshake${said}`,
    retry: 'now',
    remedy: `see that an sshd (not something else) listens at ${endpointText(target)}, and raise its MaxStartups if it is busy`,
    ...(cause === undefined ? {} : { cause }),
  });
}

export function loginRefused(
  target: SshTarget,
  reason: string,
  options: { retry: Retry; cause?: Error },
): HostError {
  const { user, identity } = target;
  return new HostError('ERR_HOST_LOGIN_REFUSED', {
    host: target.label,
    step: `log in as ${user} with ${secretName(identity)}`,
    reason,
    remedy: `put the public half of ${secretName(identity)} into the authorized_keys of ${user} on the host, and look into the host's sshd log for the reason`,
    ...options,
  });
}

const placeOf = ({ file, line }: PinnedKey): string => `${file}:${line}`;

/** undefined when the key is the pinned one. */
export function refuseHostKey(
  target: SshTarget,
  verdict: HostKeyVerdict,
  presented: Buffer,
  knownHosts: KnownHosts,
): HostError | undefined {
  if (verdict.verdict === 'known') return undefined;
  const key = `${hostKeyType(presented) ?? 'unknown type'} ${fingerprintOf(presented)}`;
  const compare = `compare it on the host itself (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub)`;
  const scan = `kacme hosts scan ${target.name}`;
  const details = { host: target.label, step: 'check the host key', retry: 'never' } as const;
  switch (verdict.verdict) {
    case 'unknown':
      return new HostError('ERR_HOST_KEY_UNKNOWN', {
        ...details,
        reason: `no key is pinned in ${knownHosts.file}${ignoredLines(knownHosts)}; the server presented ${key}`,
        remedy: `${compare}, then pin it: ${scan} >> ${knownHosts.file}`,
      });
    case 'changed':
      return new HostError('ERR_HOST_KEY_CHANGED', {
        ...details,
        reason: `the server presented ${key}, but pinned is ${verdict.pinned
          .map((pinned) => `${pinned.keyType} ${pinned.fingerprint} (${placeOf(pinned)})`)
          .join(' and ')}. This may be an impostor; nothing was sent to it`,
        remedy: `if the host was reinstalled, ${compare}; only when they are equal, replace ${verdict.pinned.map(placeOf).join(', ')} by what ${scan} prints`,
      });
    case 'revoked':
      return new HostError('ERR_HOST_KEY_REVOKED', {
        ...details,
        reason: `the server presented ${key}, which is revoked (${placeOf(verdict.pinned)})`,
        remedy: `somebody else may hold this key: make new host keys on the host, ${compare}, and pin them; the revocation stays`,
      });
  }
}

function ignoredLines({ ignored }: KnownHosts): string {
  if (ignored.length === 0) return '';
  return ` (of which ${ignored.map(({ line, reason }) => `line ${line} is ignored: ${reason}`).join('; ')})`;
}
