import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { JumpSpec } from '../domain/model.ts';
import { abortable } from './abortable.ts';
import { connectSsh, type SshSurroundings } from './connect.ts';
import type { SshConnection, Way } from './connection.ts';
import type { Endpoint } from './connection-errors.ts';
import { forwardTcp } from './forward-tcp.ts';
import { endpointText } from './host-label.ts';
import { DIRECT } from './tcp.ts';

/** Everybody behind a jump host that failed just now gets that failure: a thousand hosts are one attempt to log in. */
const REMEMBER_FAILURE_MS = 2_000;

interface SharedJump {
  readonly connection: Promise<SshConnection>;
  /** Ends the opening. */
  readonly stop: AbortController;
  /** Connections over it, and those that are being made. */
  users: number;
  failedAtMs: number | undefined;
}

/**
 * The connections to jump hosts: one for all that is behind it, kept for as long as somebody uses it. Only TCP is
 * forwarded (`direct-tcpip`, RFC 4254 section 7.2); no agent, no command, no session.
 */
export class JumpHosts {
  readonly #shared = new Map<string, SharedJump>();
  readonly #surroundings: SshSurroundings;

  constructor(surroundings: SshSurroundings) {
    this.#surroundings = surroundings;
  }

  /** Through `jumps`, the nearest one first. `connectTimeoutMs` bounds each connection on the way. */
  wayThrough(jumps: readonly JumpSpec[], connectTimeoutMs: number): Way {
    const last = jumps.at(-1);
    if (last === undefined) return DIRECT;
    const name = JSON.stringify(jumps);
    const open = ({ signal }: { signal: AbortSignal }) =>
      this.#open(last, this.wayThrough(jumps.slice(0, -1), connectTimeoutMs), connectTimeoutMs, { signal });
    let under: SshConnection | undefined;
    return {
      name,
      jumps: jumps.length,
      enter: () => under?.enter() ?? (() => {}),
      connect: async (target, { signal, timeoutMs }) => {
        const shared = this.#share(name, open);
        try {
          const connection = await abortable(shared.connection, { signal });
          const socket = await forwardTcp(target, connection, { signal, timeoutMs });
          under = connection;
          socket.once('close', () => this.#leave(name, shared));
          return socket;
        } catch (error) {
          this.#leave(name, shared);
          throw error instanceof KacmeError && !signal.aborted ? behind(target, last, error) : error;
        }
      },
    };
  }

  #open(
    { knownHosts, ...jump }: JumpSpec,
    way: Way,
    connectTimeoutMs: number,
    options: { signal: AbortSignal },
  ): Promise<SshConnection> {
    const target = { ...jump, name: jump.address, connectTimeoutMs, label: jumpLabel(jump) };
    return connectSsh(target, knownHosts, way, this.#surroundings, options);
  }

  #share(name: string, open: (options: { signal: AbortSignal }) => Promise<SshConnection>): SharedJump {
    const { clock } = this.#surroundings;
    const existing = this.#shared.get(name);
    const failedMs = existing?.failedAtMs;
    if (existing && (failedMs === undefined || clock.monotonicMs() - failedMs < REMEMBER_FAILURE_MS)) {
      existing.users += 1;
      return existing;
    }
    const stop = new AbortController();
    const shared: SharedJump = { connection: open(stop), stop, users: 1, failedAtMs: undefined };
    this.#shared.set(name, shared);
    shared.connection.then(
      ({ closed }) => closed.addEventListener('abort', () => this.#forget(name, shared), { once: true }),
      () => {
        // Given up by everybody, it has not failed.
        if (stop.signal.aborted) this.#forget(name, shared);
        else shared.failedAtMs = clock.monotonicMs();
      },
    );
    return shared;
  }

  /** The last one closes the door. */
  #leave(name: string, shared: SharedJump): void {
    shared.users -= 1;
    if (shared.users > 0 || shared.failedAtMs !== undefined) return;
    this.#forget(name, shared);
    shared.stop.abort(new Error('nobody needs the jump host any more'));
    shared.connection.then(
      (connection) => connection.close(),
      () => {},
    );
  }

  #forget(name: string, shared: SharedJump): void {
    if (this.#shared.get(name) === shared) this.#shared.delete(name);
  }
}

const jumpLabel = (jump: { readonly address: string; readonly port: number }): string =>
  `jump host ${endpointText(jump)}`;

/** What went wrong with a jump host, said of a host behind it. */
function behind(target: Endpoint, jump: JumpSpec, error: KacmeError): KacmeError {
  if (!(error instanceof HostError) || error.host === target.label) return error;
  return new HostError(error.code, {
    host: target.label,
    step: `${error.host === jumpLabel(jump) ? error.host : `reach ${jumpLabel(jump)}: ${error.host}`}: ${error.step}`,
    reason: error.reason,
    // Its own attempts are over.
    retry: error.retry === 'now' ? 'later' : error.retry,
    remedy: error.remedy,
    cause: error,
  });
}
