import { Socket } from 'node:net';
import { HostError } from '../domain/host-error.ts';
import { bounded } from './bounded.ts';
import type { Way } from './connection.ts';
import { type Endpoint, unreachable, wordsOf } from './connection-errors.ts';

/** While nothing is asked of a host its kernel is, by ours, at no cost here: a host that is gone is noticed all the same. */
const IDLE_CHECK_MS = 15_000;

/** Straight from this machine. */
export const DIRECT: Way = { name: 'direct', connect: connectTcp, jumps: 0, enter: () => () => {} };

async function connectTcp(
  target: Endpoint,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<Socket> {
  const { address, port } = target;
  const socket = new Socket();
  try {
    await bounded<void>(
      (done) => {
        socket.once('error', done);
        // The option of the same name is ignored by a socket that exists already (Node 20).
        socket.setNoDelay(true);
        socket.setKeepAlive(true, IDLE_CHECK_MS);
        socket.connect({ host: address, port }, () => done(undefined));
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
