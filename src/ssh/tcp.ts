import { createConnection, type Socket } from 'node:net';
import { HostError } from '../domain/host-error.ts';
import { bounded } from './bounded.ts';
import type { Way } from './connection.ts';
import { type Endpoint, unreachable, wordsOf } from './connection-errors.ts';

/** While nothing is asked of a host its kernel is, by ours, at no cost here: a host that is gone is noticed all the same. */
const IDLE_CHECK_MS = 15_000;

/**
 * One for all connections: whatever is read is copied out of it before the next read. Node would take 64 kB from the heap
 * for each read, of which an SSH packet leaves all but a few hundred bytes to be collected later.
 */
const READ_BUFFER = Buffer.allocUnsafeSlow(64 * 1024);

/** Straight from this machine. */
export const DIRECT: Way = { name: 'direct', connect: connectTcp, jumps: 0, enter: () => () => {} };

async function connectTcp(
  target: Endpoint,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<Socket> {
  const { address, port } = target;
  const socket: Socket = createConnection({
    host: address,
    port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: IDLE_CHECK_MS,
    onread: {
      buffer: READ_BUFFER,
      callback: (bytes, buffer) => socket.push(Buffer.from(buffer.subarray(0, bytes))),
    },
  });
  try {
    await bounded<void>(
      (done) => {
        socket.once('error', done);
        socket.once('connect', () => done(undefined));
      },
      {
        until: [signal],
        timeoutMs,
        onTimeout: () =>
          unreachable(
            target,
            'connect',
            `no answer within ${target.connectTimeoutMs} ms, packets are dropped or the host is down`,
          ),
      },
    );
    return socket;
  } catch (error) {
    socket.destroy();
    if (error instanceof HostError || signal.aborted || !(error instanceof Error)) throw error;
    throw unreachable(target, 'connect', wordsOf(error), error);
  }
}
