import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { KacmeError } from '../domain/errors.ts';

/** `sun_path` of unix(7) takes 108 bytes with its final zero; libuv would cut a longer one silently. */
const MAX_PATH_BYTES = 107;

/** Throws `ERR_STORE_UNUSABLE` for a path that does not fit. */
export async function listen(server: Server, path: string): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw new KacmeError(
      'ERR_STORE_UNUSABLE',
      `cannot make the lock's socket ${path}: its path has ${bytes} bytes, a socket's may have ${MAX_PATH_BYTES}`,
      {
        retry: 'never',
        remedy: `choose a store directory with a path shorter by ${bytes - MAX_PATH_BYTES} bytes`,
      },
    );
  }
  server.listen(path);
  await once(server, 'listening');
}

export async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  await closed;
}

/** Resolves when the other end closes, however it ends. */
export function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve());
    if (socket.closed) resolve();
    else socket.resume();
  });
}

/** The first line that comes, or what came of it within `timeoutMs`; then the connection is over. */
export function firstLine(socket: Socket, timeoutMs: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const done = (): void => {
      socket.destroy();
      resolve(text.split('\n', 1)[0] ?? '');
    };
    socket.setEncoding('utf8').setTimeout(timeoutMs, done);
    socket.on('data', (chunk) => {
      text += String(chunk);
      if (text.includes('\n') || text.length > 4096) done();
    });
    socket.on('error', done).on('close', done);
  });
}
