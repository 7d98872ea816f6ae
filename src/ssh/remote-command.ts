import type { ClientChannel } from 'ssh2';
import { HostError } from '../domain/host-error.ts';
import type { CommandOptions, CommandResult } from '../ports/host-session.ts';
import { bounded } from './bounded.ts';
import { commandLine } from './command-line.ts';
import { CommandOutput } from './command-output.ts';
import type { SshConnection } from './connection.ts';
import type { SftpServer } from './sftp-requests.ts';

/**
 * SSH_FXP_INIT of version 3. A forced sftp-server runs instead of whatever is asked for, ends well when its input ends,
 * and would so look like a command that has succeeded: it gives itself away by answering this.
 */
const SFTP_INIT = Buffer.from([0, 0, 0, 5, 1, 0, 0, 0, 3]);
const SSH_FXP_VERSION = 2;
/** What sshd says by itself where the forced command is internal-sftp (session.c of OpenSSH). */
const SFTP_ONLY = 'This service allows sftp connections only.';

/** Runs a command through the exec request of SSH (RFC 4254 section 6.5). Throws `ERR_HOST_COMMAND`. */
export async function runRemoteCommand(
  connection: SshConnection,
  { host, account }: Pick<SftpServer, 'host' | 'account'>,
  argv: readonly string[],
  { signal, mandate, timeoutMs }: CommandOptions,
): Promise<CommandResult> {
  const line = commandLine(argv);
  const refused = (reason: string, remedy: string, cause?: Error) =>
    new HostError('ERR_HOST_COMMAND', {
      host,
      step: `run ${line}`,
      reason,
      retry: 'later',
      remedy,
      ...(cause === undefined ? {} : { cause }),
    });
  const bounds = {
    until: [signal, connection.closed],
    timeoutMs,
    onTimeout: () =>
      refused(`it did not end within ${timeoutMs} ms; it may still run`, 'see on the host what it waits for'),
  };
  signal.throwIfAborted();
  mandate.assertHeld();
  const output = new CommandOutput();
  let channel: ClientChannel | undefined;
  try {
    const status = await bounded<number | undefined>((done) => {
      connection.client.exec(line, (error, opened) => {
        if (error) return done(error);
        channel = opened;
        let status: number | undefined;
        opened.on('error', done);
        opened.on('data', output.add);
        opened.stderr.on('data', output.add);
        opened.on('exit', (code: number | null) => {
          status = code ?? undefined;
        });
        opened.on('close', () => done(undefined, status));
        opened.end(SFTP_INIT);
      });
    }, bounds);
    if (isSftpServer(output)) {
      throw refused(
        `sshd gives ${account} nothing but SFTP, whatever it is asked to run`,
        'let the pool reload through haproxy.masterSocket, which needs no command, or give it an account that may run this one',
      );
    }
    return { status, output: output.toString() };
  } catch (error) {
    if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
    throw refused(
      `sshd does not run it (${error.message})`,
      `see that ${account} may run commands (ForceCommand, and restrict or command= in authorized_keys)`,
      error,
    );
  } finally {
    channel?.close();
  }
}

const isSftpServer = (output: CommandOutput): boolean =>
  output.toString() === SFTP_ONLY || (output.bytes[0] === 0 && output.bytes[4] === SSH_FXP_VERSION);
