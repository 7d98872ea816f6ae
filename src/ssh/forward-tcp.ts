import type { ClientChannel } from 'ssh2';
import { HostError } from '../domain/host-error.ts';
import { bounded } from './bounded.ts';
import type { SshConnection } from './connection.ts';
import { ForwardedSocket } from './forwarded-socket.ts';
import { endpointText } from './host-label.ts';

/** What a forwarded connection leads to. */
export interface ForwardTarget {
  /** `pool/host`, for messages. */
  readonly label: string;
  readonly address: string;
  readonly port: number;
  /** What is expected to listen there; an sshd when undefined. */
  readonly listener?: string;
}

/** RFC 4254 section 5.1. */
const ADMINISTRATIVELY_PROHIBITED = 1;

/** A TCP connection that an sshd makes for us (`direct-tcpip`, RFC 4254 section 7.2). Throws `ERR_HOST_UNREACHABLE`. */
export async function forwardTcp(
  target: ForwardTarget,
  by: SshConnection,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<ForwardedSocket> {
  const through = by.target.label;
  const listener = target.listener ?? 'an sshd';
  const failed = (reason: string, remedy: string, cause?: Error): HostError =>
    new HostError('ERR_HOST_UNREACHABLE', {
      host: target.label,
      step: 'connect',
      reason,
      retry: 'later',
      remedy,
      ...(cause === undefined ? {} : { cause }),
    });
  try {
    const channel = await bounded<ClientChannel>(
      // Where the connection comes from is for sshd's log only.
      (done) => by.client.forwardOut('127.0.0.1', 0, target.address, target.port, done),
      {
        until: [signal, by.closed],
        timeoutMs,
        enter: () => by.enter(),
        onTimeout: () =>
          failed(
            `${through} did not connect within ${timeoutMs} ms: packets are dropped behind it, or the host is down`,
            `see that the host is up and that ${listener} listens at ${endpointText(target)}`,
          ),
        release: (late) => late.close(),
      },
    );
    return new ForwardedSocket(channel, { closed: by.closed, enter: () => () => {} });
  } catch (error) {
    if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
    const prohibited = 'reason' in error && error.reason === ADMINISTRATIVELY_PROHIBITED;
    throw failed(
      `${through} ${prohibited ? 'may not connect there' : 'could not connect'} (${error.message})`,
      prohibited
        ? `allow it in the sshd_config of the ${through}: AllowTcpForwarding local, and PermitOpen ${endpointText(target)}`
        : `see that the host is up, and that ${listener} listens there that the ${through} can reach`,
      error,
    );
  }
}
