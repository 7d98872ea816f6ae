import { Duplex } from 'node:stream';
import type { ClientChannel } from 'ssh2';

/** The connection that carries it. */
interface ForwardingConnection {
  readonly closed: AbortSignal;
  /** Somebody waits for the host until the returned function is called. */
  enter(): () => void;
}

/**
 * A UNIX socket of the host, forwarded. ssh2's own channel ends in the same way when the socket is closed and
 * when the whole connection is lost; here the latter is an error, so that half an answer is never taken for
 * a whole one.
 */
export class ForwardedSocket extends Duplex {
  readonly #channel: ClientChannel;
  readonly #closed: AbortSignal;
  readonly #leave: () => void;
  #writing: ((error?: Error | null) => void) | undefined;
  readonly #onClosed = () => this.destroy(this.#closed.reason);

  constructor(channel: ClientChannel, connection: ForwardingConnection) {
    super({ allowHalfOpen: false });
    this.#channel = channel;
    const { closed } = connection;
    this.#closed = closed;
    this.#leave = connection.enter();
    closed.addEventListener('abort', this.#onClosed);
    channel.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on('end', () => this.push(null));
    channel.on('error', (error: Error) => this.destroy(error));
    channel.on('close', () => {
      if (this.#writing !== undefined) this.#settleWrite(gone());
    });
    if (closed.aborted) this.#onClosed();
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#writing = callback;
    if (this.#channel.writable) this.#channel.write(chunk, (error) => this.#settleWrite(error));
    else this.#settleWrite(gone());
  }

  override _final(callback: (error?: Error | null) => void): void {
    // Ending it twice makes an error, though nobody hears of it.
    if (this.#channel.writable) this.#channel.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#leave();
    this.#closed.removeEventListener('abort', this.#onClosed);
    this.#channel.close();
    callback(error);
  }

  /** ssh2 forgets a write that waits for window space when the channel is closed. */
  #settleWrite(error: Error | null | undefined): void {
    const callback = this.#writing;
    this.#writing = undefined;
    callback?.(error);
  }
}

const gone = (): Error => new Error('the other side has closed the socket');
