import { dirname } from 'node:path/posix';
import type { SFTPWrapper } from 'ssh2';
import { HostError } from '../domain/host-error.ts';
import type { SshSpec } from '../domain/model.ts';
import type { Mandate } from '../ports/leadership.ts';
import { type Bounds, bounded, type Done } from './bounded.ts';
import type { SshConnection } from './connection.ts';
import type { FileStep } from './file-errors.ts';
import { startSftp } from './sftp-channel.ts';
import { gatherFacts, type PlaceFacts, sftpError, statusOf } from './sftp-errors.ts';

/** Bound of one operation on the host; a host that is gone is noticed sooner, by what asks it for a sign of life. */
const OPERATION_TIMEOUT_MS = 10_000;

export interface RequestOptions<T> {
  readonly signal: AbortSignal;
  /** Makes the request an effect: looked at when the way is open, immediately before it is sent. */
  readonly mandate?: Mandate;
  /** Called with an answer that comes after the caller gave up. */
  readonly release?: (late: T, sftp: SFTPWrapper) => void;
}

/** Whom errors name, and how SFTP is reached there. */
export interface SftpServer {
  /** `pool/host`. */
  readonly host: string;
  readonly account: string;
  readonly sftp: SshSpec['sftp'];
}

/** What requests go over. */
type SftpCarrier = Pick<SshConnection, 'client' | 'closed' | 'enter' | 'drop'>;

/** Requests to the SFTP server of one connection: each bounded, each refusal explained. */
export class SftpRequests {
  readonly host: string;
  readonly account: string;
  readonly #connection: SftpCarrier;
  readonly #how: SshSpec['sftp'];
  #starting: Promise<SFTPWrapper> | undefined;
  #sftp: SFTPWrapper | undefined;

  constructor(connection: SftpCarrier, { host, account, sftp }: SftpServer) {
    this.host = host;
    this.account = account;
    this.#connection = connection;
    this.#how = sftp;
  }

  /**
   * Sends one request. A status that says too little is explained with what the host tells of the place. Throws
   * `ERR_MANDATE_LOST`, with nothing sent.
   */
  async call<T>(
    file: FileStep,
    start: (sftp: SFTPWrapper, done: Done<T>) => void,
    { signal, mandate, release }: RequestOptions<T>,
  ): Promise<T> {
    const bounds = this.bounds<T>(file.step, { signal });
    const sftp = this.#sftp ?? (await this.#started({ signal }));
    mandate?.assertHeld();
    try {
      return await bounded<T>((done) => start(sftp, done), {
        ...bounds,
        ...(release ? { release: (late) => release(late, sftp) } : {}),
      });
    } catch (error) {
      if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
      throw sftpError(file, error, await this.#factsAfter(error, file, sftp, { signal }));
    }
  }

  /** How long anything may take on this connection, and what is said when it takes longer. */
  bounds<T>(step: string, { signal }: { signal: AbortSignal }): Bounds<T> {
    return {
      until: [signal, this.#connection.closed],
      timeoutMs: OPERATION_TIMEOUT_MS,
      enter: () => this.#connection.enter(),
      onTimeout: () => {
        const error = new HostError('ERR_HOST_FILES', {
          host: this.host,
          step,
          reason: `no answer within ${OPERATION_TIMEOUT_MS} ms, although sshd answers: perhaps a disk hangs`,
          retry: 'later',
          remedy: 'look at the disk and the load of the host',
        });
        // What it was doing may still happen later: no next step may be sent over the same session.
        this.#connection.drop(error);
        return error;
      },
    };
  }

  async #factsAfter(
    error: Error,
    { step, path }: FileStep,
    sftp: SFTPWrapper,
    options: { signal: AbortSignal },
  ): Promise<PlaceFacts | undefined> {
    if (statusOf(error) === undefined) return undefined;
    return bounded<PlaceFacts>(
      (done) => gatherFacts(sftp, path, dirname(path), (facts) => done(undefined, facts)),
      this.bounds(step, options),
    );
  }

  /** The SFTP session is started by the first request, and again when the server's end of it has died. */
  #started({ signal }: { signal: AbortSignal }): Promise<SFTPWrapper> {
    return bounded<SFTPWrapper>(
      (done) => {
        this.#starting ??= this.#start();
        this.#starting.then((sftp) => done(undefined, sftp), done);
      },
      this.bounds('start SFTP', { signal }),
    );
  }

  async #start(): Promise<SFTPWrapper> {
    const { client, closed } = this.#connection;
    let started: SFTPWrapper | undefined;
    const forget = () => {
      // It ends in several events: a later one must not take its successor along.
      if (this.#sftp !== started) return;
      this.#starting = undefined;
      this.#sftp = undefined;
    };
    try {
      const sftp = await bounded<SFTPWrapper>((done) => startSftp(client, this.#how, done), {
        ...this.bounds<SFTPWrapper>('start SFTP', { signal: closed }),
        release: (late) => late.end(),
      });
      for (const event of ['end', 'close', 'error']) sftp.on(event, forget);
      started = sftp;
      this.#sftp = sftp;
      return sftp;
    } catch (error) {
      forget();
      if (error instanceof HostError || !(error instanceof Error)) throw error;
      throw this.#noSftp(error);
    }
  }

  #noSftp(cause: Error): HostError {
    const sftp = this.#how;
    return new HostError('ERR_HOST_FILES', {
      host: this.host,
      step: sftp === 'subsystem' ? 'start the sftp subsystem' : `execute ${sftp.exec}`,
      reason: cause.message,
      retry: 'later',
      remedy:
        sftp === 'subsystem'
          ? 'add "Subsystem sftp internal-sftp" to its sshd_config, or set ssh.sftp of the pool to { exec: /usr/lib/openssh/sftp-server }, wherever the host has it'
          : `see that ${sftp.exec} is an sftp-server, and that the shell of ${this.account} prints nothing when it starts`,
      cause,
    });
  }
}
