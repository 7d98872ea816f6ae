import { once } from 'node:events';
import { chmod, lstat, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { KacmeError } from '../domain/errors.ts';
import { MAX_SOCKET_PATH_BYTES } from './control-protocol.ts';

/** `absent` covers a stale file too: nothing listens there any more. */
type Probe = 'answers' | 'absent' | 'forbidden';

/** Whether a service accepts connections at `path`. */
export async function probeSocket(path: string, { signal }: { signal: AbortSignal }): Promise<Probe> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) return 'absent';
  const socket = createConnection({ path });
  try {
    await once(socket, 'connect', { signal });
    return 'answers';
  } catch (error) {
    signal.throwIfAborted();
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR') return 'absent';
    if (code === 'EACCES' || code === 'EPERM') return 'forbidden';
    if (code === 'EAGAIN') return 'answers'; // its backlog is full: somebody listens
    throw error;
  } finally {
    socket.destroy();
  }
}

/**
 * Binds `server` to a UNIX socket of mode 0600 at `path`, over a stale one if need be. It is bound inside a
 * private directory and renamed into place, so that nobody else can connect even for an instant; a umask would
 * do the same but reaches every other file this process creates meanwhile.
 *
 * Resolves to a function that removes the socket, if it is still this one.
 */
export async function bindSocket(
  server: Server,
  path: string,
  { signal }: { signal: AbortSignal },
): Promise<() => Promise<void>> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await assertFree(path, { signal });
    const staging = await mkdtemp(join(dirname(path), '.k-'));
    try {
      const draft = join(staging, 's');
      assertFits(path, draft);
      server.listen({ path: draft });
      await once(server, 'listening', { signal });
      await chmod(draft, 0o600);
      const { ino } = await lstat(draft);
      await rename(draft, path);
      return () => removeSocket(path, ino);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  } catch (error) {
    server.close();
    if (error instanceof KacmeError) throw error;
    signal.throwIfAborted();
    throw refused(path, error instanceof Error ? error.message : String(error), {
      remedy:
        'give the user of kacme write permission on that directory, or set control.socket to another path',
      cause: error,
    });
  }
}

async function assertFree(path: string, { signal }: { signal: AbortSignal }): Promise<void> {
  const present = await lstat(path).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (present === undefined) return;
  if (!present.isSocket()) {
    throw refused(path, 'something that is not a socket is there, and kacme does not overwrite it', {
      remedy: 'move it away, or set control.socket to another path',
    });
  }
  if ((await probeSocket(path, { signal })) === 'absent') return;
  throw refused(path, 'another service answers there', {
    remedy: 'stop the other service first, or give this one a control.socket and a store of its own',
  });
}

function assertFits(path: string, draft: string): void {
  const bytes = Math.max(Buffer.byteLength(path), Buffer.byteLength(draft));
  if (bytes <= MAX_SOCKET_PATH_BYTES) return;
  throw refused(path, `its path needs ${bytes} bytes, and a UNIX socket can have ${MAX_SOCKET_PATH_BYTES}`, {
    remedy: 'set control.socket to a shorter path, such as /run/kacme/control.sock',
  });
}

async function removeSocket(path: string, ino: number): Promise<void> {
  const present = await lstat(path).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (present?.ino === ino) await rm(path, { force: true });
}

function refused(path: string, reason: string, options: { remedy: string; cause?: unknown }): KacmeError {
  return new KacmeError('ERR_LISTEN', `listen on control socket ${path}: ${reason}`, {
    retry: 'never',
    ...options,
  });
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
