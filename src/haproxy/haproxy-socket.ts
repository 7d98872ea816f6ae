import type { Duplex } from 'node:stream';
import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { Mandate } from '../ports/leadership.ts';
import { exchange } from './exchange.ts';

/** A commit over thousands of binds takes seconds; a process that says nothing for longer is stuck. */
const ANSWER_WITHIN_MS = 10_000;

export const BROKEN_ANSWER_REMEDY =
  'see on the host that HAProxy is alive, and what its log says; kacme tries again';

export type Connect = (options: { signal: AbortSignal }) => Promise<Duplex>;

export interface AskOptions {
  readonly signal: AbortSignal;
  /** Makes the request an effect: looked at on the open connection, immediately before it is sent. */
  readonly mandate?: Mandate | undefined;
  readonly timeoutMs?: number;
}

/** One of HAProxy's sockets, stats or master: a fresh connection for each request, since few are served at a time. */
export class HaproxySocket {
  /** `pool/host`, for messages. */
  readonly host: string;
  readonly #connect: Connect;

  constructor(host: string, connect: Connect) {
    this.host = host;
    this.#connect = connect;
  }

  /** Resolves to everything that HAProxy answers. Throws `ERR_HAPROXY_SOCKET`, or `ERR_MANDATE_LOST` with nothing sent. */
  async send(
    step: string,
    request: string,
    { signal, mandate, timeoutMs = ANSWER_WITHIN_MS }: AskOptions,
  ): Promise<string> {
    const stream = await this.#connect({ signal });
    const beforeSend = () => mandate?.assertHeld();
    try {
      return await exchange(stream, request, { timeoutMs, beforeSend, signal });
    } catch (error) {
      if (signal.aborted || error instanceof KacmeError) throw error;
      throw new HostError('ERR_HAPROXY_SOCKET', {
        host: this.host,
        step,
        reason: error instanceof Error ? error.message : String(error),
        retry: 'later',
        remedy: BROKEN_ANSWER_REMEDY,
        cause: error,
      });
    }
  }
}
