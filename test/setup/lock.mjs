import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';

/**
 * Runs `work` while no other process of this machine runs work of the same name. The lock is an abstract UNIX
 * socket (unix(7)): the kernel gives it back when its holder dies, however it dies.
 *
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @param {{ onWait: () => void }} options `onWait` is called once if somebody else holds it
 * @returns {Promise<T>}
 */
export async function withMachineLock(name, work, { onWait }) {
  const path = `\0kacme-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
  let waited = false;
  for (;;) {
    const server = await tryListen(path);
    if (server !== undefined) {
      try {
        return await work();
      } finally {
        await new Promise((resolve) => server.close(resolve));
      }
    }
    if (!waited) onWait();
    waited = true;
    await holderGone(path);
  }
}

/**
 * @param {string} path
 * @returns {Promise<import('node:net').Server | undefined>}
 */
function tryListen(path) {
  return new Promise((resolve, reject) => {
    /** @type {Set<import('node:net').Socket>} */
    const waiting = new Set();
    const server = createServer((socket) => {
      waiting.add(socket);
      socket.on('error', () => socket.destroy()).on('close', () => waiting.delete(socket));
    });
    const close = server.close.bind(server);
    server.close = (callback) => {
      close(callback);
      for (const socket of waiting) socket.destroy();
      return server;
    };
    server.once('error', (error) => {
      if ('code' in error && error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(path, () => resolve(server));
  });
}

/**
 * Resolves when the holder lets go: it closes our connection, or dies.
 *
 * @param {string} path
 * @returns {Promise<void>}
 */
function holderGone(path) {
  return new Promise((resolve) => {
    const socket = connect(path);
    // An error means that it was already gone; the caller tries for the lock again either way.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve());
    socket.resume();
  });
}
