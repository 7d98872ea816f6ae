import type { Duplex } from 'node:stream';
import { Client, type ConnectConfig, type ParsedKey } from 'ssh2';
import { HostError } from '../domain/host-error.ts';
import { bounded } from './bounded.ts';
import type { ConnectBudget } from './connect-budget.ts';
import {
  droppedEarly,
  type Endpoint,
  loginRefused,
  type Phase,
  refuseHostKey,
  type SshTarget,
  unreachable,
  wordsOf,
} from './connection-errors.ts';
import { hostKeyAlgorithms, judgeHostKey, type KnownHosts } from './known-hosts.ts';
import { Liveness } from './liveness.ts';

export interface SshCredentials {
  readonly identity: ParsedKey;
  readonly knownHosts: KnownHosts;
}

const CLOSE_TIMEOUT_MS = 500;
const FROZEN = 'the host stopped answering: frozen, or the network is gone';
/** RFC 4253 section 4.2 bounds the identification line at 255 bytes. */
const HEARD_BYTES = 255;

/** How the bytes get to an sshd. */
export interface Way {
  /** Tells one from another: the same address behind another jump host is another sshd. */
  readonly name: string;
  /** Throws `ERR_HOST_*`. */
  connect(target: Endpoint, options: { signal: AbortSignal; timeoutMs: number }): Promise<Duplex>;
  /** Jump hosts in between: each one's own death must be noticed before it is taken for that of what is behind it. */
  readonly jumps: number;
  /** An operation over it begins, and ends when the returned function is called. */
  enter(): () => void;
}

/** Waits for a place among the logins under way, then runs one. */
type LoginTurn = (logIn: () => Promise<void>) => Promise<void>;

/** Two unanswered questions end a connection: a host that froze is noticed within 1.5 s. */
const PATIENCE = 2;

/** A logged-in SSH connection to a host that proved to own a pinned key. */
export class SshConnection {
  readonly target: SshTarget;
  readonly client = new Client();
  readonly #socket: Duplex;
  readonly #way: Way;
  readonly #liveness: Liveness;
  readonly #closed = new AbortController();
  #phase: Phase = 'await the SSH banner';
  #refusal: HostError | undefined;
  #lastError: Error | undefined;
  #heard = '';
  #gathering = false;

  private constructor(target: SshTarget, socket: Duplex, way: Way) {
    this.target = target;
    this.#socket = socket;
    this.#way = way;
    this.#liveness = new Liveness(this.client, {
      patience: PATIENCE + way.jumps,
      onDead: () => this.drop(unreachable(target, this.#phase, FROZEN)),
    });
    this.client.once('handshake', () => {
      this.#phase = 'log in';
    });
    this.client.on('error', (error) => {
      this.#lastError ??= error;
      // ssh2 would wait for the other side to hang up, which a hostile or frozen one never does.
      if (socket.writableFinished) socket.destroy();
      else socket.once('finish', () => socket.destroy()).end();
    });
    this.client.on('close', () => this.#closed.abort(this.#explainEnd()));
  }

  /**
   * One attempt. Throws `ERR_HOST_*`, with `retry: now` when the server hung up before the handshake; rejects
   * with `signal.reason` when aborted. Nothing but the key exchange is sent to a server that is not known.
   */
  static async open(
    target: SshTarget,
    credentials: SshCredentials,
    { way, budget, turn, signal }: { way: Way; budget: ConnectBudget; turn: LoginTurn; signal: AbortSignal },
  ): Promise<SshConnection> {
    const socket = await budget.spend((timeoutMs) => way.connect(target, { signal, timeoutMs }));
    const connection = new SshConnection(target, socket, way);
    try {
      await turn(() => budget.spend((timeoutMs) => connection.#logIn(credentials, { signal, timeoutMs })));
      return connection;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** Aborts when the connection is gone; its reason is an `ERR_HOST_*`. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** An operation begins that waits for the host, and ends when the returned function is called. */
  enter(): () => void {
    this.#gather();
    const leaves = [this.#liveness.enter(), this.#way.enter()];
    return () => {
      for (const leave of leaves) leave();
    };
  }

  /**
   * What is written before the event loop turns leaves in one system call: ssh2 makes several packets of everything, and
   * with many hosts the writes cost more than the encryption.
   */
  readonly #gather = (): void => {
    if (this.#gathering) return;
    this.#gathering = true;
    this.#socket.cork();
    setImmediate(() => {
      this.#gathering = false;
      this.#socket.uncork();
    });
  };

  /** Ends it at once, for a reason that everything in flight rejects with. */
  drop(reason: HostError): void {
    this.#closed.abort(reason);
    this.#socket.destroy();
  }

  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    this.#closed.abort(
      new HostError('ERR_ABORTED', {
        host: this.target.label,
        step: 'session',
        reason: 'it was closed by kacme',
        retry: 'later',
      }),
    );
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve());
      this.client.end();
    });
    clearTimeout(timer);
  }

  #logIn(
    credentials: SshCredentials,
    { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
  ): Promise<void> {
    return bounded<void>(
      (done) => {
        this.client.once('ready', () => {
          this.#phase = 'session';
          done(undefined);
        });
        // Before ssh2, which answers what it reads.
        this.#socket.on('data', this.#gather);
        this.client.connect(this.#configuration(credentials));
        this.#socket.on('data', this.#listen);
      },
      {
        until: [signal, this.closed],
        timeoutMs,
        enter: () => this.#way.enter(),
        onTimeout: () => this.#explainTimeout(),
      },
    );
  }

  #configuration({ identity, knownHosts }: SshCredentials): ConnectConfig {
    const { address, port, hostKeyName: alias, user } = this.target;
    const endpoint = { host: address, port, alias };
    let offered = false;
    return {
      sock: this.#socket,
      username: user,
      algorithms: { serverHostKey: hostKeyAlgorithms(knownHosts, endpoint) },
      // Must answer synchronously, and exactly false to refuse: ssh2 takes null or a promise for a yes.
      hostVerifier: (key: Buffer): boolean => {
        this.#refusal = refuseHostKey(this.target, judgeHostKey(knownHosts, endpoint, key), key, knownHosts);
        return this.#refusal === undefined;
      },
      authHandler: (methodsLeft, _partialSuccess, next) => {
        if (!offered) {
          offered = true;
          return next({ type: 'publickey', username: user, key: identity });
        }
        const others = (methodsLeft ?? []).filter((method) => method !== 'publickey').join(', ');
        const reason = `sshd refused the key${others === '' ? '' : ` and would go on with: ${others}`}`;
        this.drop(loginRefused(this.target, reason, { retry: 'never' }));
      },
      readyTimeout: 0, // bounded here, with a message of its own
      keepaliveInterval: 0, // see Liveness
      strictVendor: false, // a server that lacks an extension says so itself
    };
  }

  /** Keeps the first line that the server says, which tells what it is when it is no sshd. */
  readonly #listen = (chunk: Buffer): void => {
    this.#heard += chunk.toString('latin1', 0, HEARD_BYTES - this.#heard.length);
    if (!/^SSH-[^\n]*\n/m.test(this.#heard)) return;
    this.#phase = 'exchange keys';
    this.#socket.off('data', this.#listen);
  };

  #explainEnd(): HostError {
    if (this.#refusal) return this.#refusal;
    const cause = this.#lastError;
    const reason = cause ? wordsOf(cause) : 'the server closed the connection';
    switch (this.#phase) {
      case 'await the SSH banner':
        return droppedEarly(this.target, firstLine(this.#heard), cause);
      case 'log in':
        // Perhaps it was only restarted at this moment.
        return loginRefused(this.target, reason, { retry: 'later', ...(cause ? { cause } : {}) });
      default:
        return unreachable(this.target, this.#phase, reason, cause);
    }
  }

  #explainTimeout(): HostError {
    const { connectTimeoutMs } = this.target;
    const said = firstLine(this.#heard);
    const instead =
      this.#phase === 'await the SSH banner' && said !== ''
        ? `, it said ${JSON.stringify(said)} instead of naming an SSH version`
        : '';
    return unreachable(this.target, this.#phase, `no answer within ${connectTimeoutMs} ms${instead}`);
  }
}

const firstLine = (text: string): string => text.split(/\r?\n/)[0] ?? '';
