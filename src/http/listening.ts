import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { KacmeError } from '../domain/errors.ts';
import type { Listen } from '../domain/model.ts';
import { gracefulClose } from './graceful-close.ts';

export interface ListeningServer {
  readonly address: Listen;
  /** Lets answers under way finish, at most 2 s. Idempotent. */
  close(): Promise<void>;
}

export interface ListeningOptions {
  /** Port 0 takes any free one. */
  readonly listen: Listen;
  /** In the log and in errors, such as `challenge server`. */
  readonly name: string;
  /** What an operator can do when the address cannot be had. */
  readonly remedy: string;
  readonly log: Logger;
}

const CLOSE_WITHIN_MS = 2_000;

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there already',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EACCES: 'this user may not listen on that port',
};

/** Resolves when `server` listens. Throws `ERR_LISTEN` when it cannot. */
export async function startListening(
  server: Server,
  { listen, name, remedy, log }: ListeningOptions,
  { signal }: { signal: AbortSignal },
): Promise<ListeningServer> {
  const closeServer = gracefulClose(server);
  try {
    server.listen(listen);
    await once(server, 'listening', { signal });
  } catch (error) {
    server.close();
    signal.throwIfAborted();
    const what = `${name}: listen on ${listen.host} port ${listen.port}: ${reasonOf(error)}`;
    throw new KacmeError('ERR_LISTEN', what, { cause: error, retry: 'never', remedy });
  }
  server.on('error', (error) => log.error({ err: error }, `${name} failed`));
  const { address, port } = server.address() as AddressInfo;
  log.info({ host: address, port }, `${name} ready`);

  let closed: Promise<void> | undefined;
  return {
    address: { host: address, port },
    close: () => {
      closed ??= closeServer(CLOSE_WITHIN_MS);
      return closed;
    },
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return ('code' in error ? REASONS[String(error.code)] : undefined) ?? error.message;
}
