/** ssh2's SFTP client by itself: `Client.sftp` starts it on the subsystem only. See sftp-channel.ts. */
declare module 'ssh2/lib/protocol/SFTP.js' {
  import type { SFTPWrapper } from 'ssh2';

  interface SftpTransport {
    readonly _protocol: {
      /** The server's identification line: OpenSSH's limits of packet size are assumed for OpenSSH only. */
      readonly _remoteIdentRaw: Buffer;
      channelData(id: number, data: Buffer): void;
      channelClose(id: number): void;
    };
  }

  interface SftpChannelInfo {
    readonly type: 'sftp';
    readonly incoming: { readonly id: number; readonly state: 'open' };
    readonly outgoing: {
      readonly id: number;
      readonly window: number;
      readonly packetSize: number;
      readonly state: 'open';
    };
  }

  /** `SFTPWrapper` of the published types, with the two ends that ssh2's own channel code uses. */
  interface SFTP extends SFTPWrapper {
    /** Starts the exchange of versions; `ready` or `error` follows. */
    _init(): void;
    /** Bytes from the server; null when there are no more. */
    push(data: Buffer | null): void;
  }

  const SFTP: new (transport: SftpTransport, info: SftpChannelInfo, options: object) => SFTP;
}
