import type { Client, ClientChannel, SFTPWrapper } from 'ssh2';
import { SFTP } from 'ssh2/lib/protocol/SFTP.js';
import type { SshSpec } from '../domain/model.ts';
import type { Done } from './bounded.ts';

const STDERR_BYTES = 500;

/** Starts SFTP (draft-ietf-secsh-filexfer-02, version 3) over the subsystem or an executed sftp-server. */
export function startSftp(client: Client, how: SshSpec['sftp'], done: Done<SFTPWrapper>): void {
  if (how === 'subsystem') client.sftp(done);
  else client.exec(shellWord(how.exec), (error, channel) => (error ? done(error) : speakSftp(channel, done)));
}

/** ssh2's SFTP client over any channel: the channel does the flow control, so the window seems endless. */
function speakSftp(channel: ClientChannel, done: Done<SFTPWrapper>): void {
  const sftp = new SFTP(
    {
      _protocol: {
        _remoteIdentRaw: Buffer.from('SSH-2.0-OpenSSH'),
        channelData: (_id, data) => {
          if (channel.writable) channel.write(data);
        },
        channelClose: () => channel.close(),
      },
    },
    {
      type: 'sftp',
      incoming: { id: 0, state: 'open' },
      outgoing: { id: 0, window: Infinity, packetSize: Infinity, state: 'open' },
    },
    {},
  );
  let stderr = '';
  let exit: number | string | undefined;
  channel.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(0, STDERR_BYTES);
  });
  channel.on('exit', (code: number | null, signal?: string) => {
    exit = code ?? signal;
  });
  channel.on('data', (chunk: Buffer) => sftp.push(chunk));
  channel.on('error', (error: Error) => sftp.emit('error', error));
  channel.on('close', () => {
    sftp.push(null);
    sftp.emit('close');
    const said = stderr.trim() === '' ? '' : `: ${stderr.trim()}`;
    done(new Error(`the executed program ended (${exit ?? 'connection lost'}) before it spoke SFTP${said}`));
  });
  sftp.on('ready', () => done(undefined, sftp));
  sftp.on('error', (error: Error) =>
    done(new Error(`the executed program does not speak SFTP (${error.message})`, { cause: error })),
  );
  sftp._init();
}

/** sshd gives the command to the account's shell. */
function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
