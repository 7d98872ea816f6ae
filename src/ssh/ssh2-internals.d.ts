import 'ssh2';

declare module 'ssh2' {
  /** What ssh2's own keepalive is made of: it can be had there only at one pace for the whole connection. */
  interface Client {
    /** In the order of the global requests that they answer (RFC 4254 section 4). Replaced when the connection closes. */
    readonly _callbacks: (() => void)[];
    readonly _protocol: { ping(): void };
  }
}
