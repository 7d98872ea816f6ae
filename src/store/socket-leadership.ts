import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { link, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../ports/clock.ts';
import type { Leadership, Mandate } from '../ports/leadership.ts';
import { namesIn } from './durable-files.ts';
import { decodeObject } from './envelope.ts';
import { epochsAmong, highestEpoch, lockDirectory } from './lock-directory.ts';
import { SocketMandate } from './socket-mandate.ts';
import { hasCode, onDisk, unusable } from './store-errors.ts';
import { ensureDirectory, prepareStoreRoot } from './store-root.ts';
import { closeServer, ended, firstLine, listen } from './unix-socket.ts';

const CLAIM = 'claim-';
/**
 * Entries kept besides the highest. A late contender must find a higher epoch than its own in one look at the
 * directory, even while entries come and go.
 */
const KEPT_ENTRIES = 8;
/** A waiting contender looks again after this, whatever its connection to the holder says. */
const RECHECK_MS = 10_000;
const ANSWER_MS = 1_000;

/** What a connection to an entry of the lock directory met; `gone`: look at the directory again. */
type Met = Socket | 'alive' | 'dead' | 'gone';

export interface SocketLeadershipOptions {
  readonly clock: Clock;
  /** What this process is doing, such as `kacme serve`: other processes show it. */
  readonly command: string;
}

/**
 * Leadership among the processes of one machine, containers that share the directory included. The holder of
 * epoch N listens on the socket `<root>/lock/N`: the kernel closes it with the process, and what is closed
 * never answers again, so nothing can be left locked and no PID or clock is asked. `link` lets exactly one
 * contender make N+1. The highest entry is never removed: it carries the epoch.
 */
export class SocketLeadership implements Leadership {
  readonly #root: string;
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #command: string;

  constructor(root: string, { clock, command }: SocketLeadershipOptions) {
    this.#root = root;
    this.#directory = lockDirectory(root);
    this.#clock = clock;
    this.#command = command;
  }

  async tryAcquire({ signal }: { signal: AbortSignal }): Promise<Mandate | undefined> {
    await prepareStoreRoot(this.#root);
    await ensureDirectory(this.#directory);
    return await onDisk(`take the lock in ${this.#directory}`, async () => {
      for (;;) {
        signal.throwIfAborted();
        const epoch = await highestEpoch(this.#root);
        const met = epoch === 0 ? 'dead' : await this.#connect(epoch);
        if (met === 'gone') continue;
        if (met !== 'dead') {
          if (met !== 'alive') met.destroy();
          return undefined;
        }
        const mandate = await this.#claim(epoch + 1);
        if (mandate !== undefined) return mandate;
      }
    });
  }

  async campaign({ signal }: { signal: AbortSignal }): Promise<Mandate> {
    for (;;) {
      const mandate = await this.tryAcquire({ signal });
      if (mandate !== undefined) return mandate;
      await this.#holderEnds({ signal });
    }
  }

  async holder({ signal }: { signal: AbortSignal }): Promise<string | undefined> {
    return await onDisk(`look at the lock in ${this.#directory}`, async () => {
      for (;;) {
        signal.throwIfAborted();
        const epoch = await highestEpoch(this.#root);
        if (epoch === 0) return undefined;
        const met = await this.#connect(epoch);
        if (met === 'gone') continue;
        if (met === 'dead') return undefined;
        return describe(met === 'alive' ? '' : await firstLine(met, ANSWER_MS));
      }
    });
  }

  /** undefined when another contender was faster. */
  async #claim(epoch: number): Promise<Mandate | undefined> {
    const claim = join(this.#directory, `${CLAIM}${randomBytes(4).toString('hex')}`);
    const connections = new Set<Socket>();
    const server = this.#server(connections);
    await listen(server, claim);
    const entry = join(this.#directory, String(epoch));
    let mine = false;
    try {
      mine = await linked(claim, entry);
      if (mine && (await highestEpoch(this.#root)) !== epoch) {
        // A claim for an epoch that was over before it was made.
        await rm(entry, { force: true });
        mine = false;
      }
      if (!mine) return undefined;
      await this.#removeOld(epoch);
      return new SocketMandate(this.#root, epoch, async () => {
        for (const connection of connections) connection.destroy();
        await closeServer(server);
      });
    } finally {
      // Node removes the path it was bound to when it closes: only the link may be the lock.
      await rm(claim, { force: true });
      if (!mine) await closeServer(server);
    }
  }

  /** Of a contender that is still alive too: its link then fails, and it finds this holder. */
  async #removeOld(epoch: number): Promise<void> {
    const names = await namesIn(this.#directory);
    const old = epochsAmong(names).filter((other) => other < epoch - KEPT_ENTRIES);
    const claims = names.filter((name) => name.startsWith(CLAIM));
    await Promise.all(
      [...old.map(String), ...claims].map((name) => rm(join(this.#directory, name), { force: true })),
    );
  }

  #server(connections: Set<Socket>): Server {
    const { pid } = process;
    const since = this.#clock.now().toISOString();
    const introduction = `${JSON.stringify({ command: this.#command, pid, hostname: hostname(), since })}\n`;
    const server = createServer((connection) => {
      connections.add(connection);
      connection.unref();
      connection.on('close', () => connections.delete(connection));
      // A contender that went away: nothing is lost.
      connection.on('error', () => connection.destroy());
      connection.resume().write(introduction);
    });
    // The lock must not keep a process alive that has nothing else to do.
    return server.unref();
  }

  async #connect(epoch: number): Promise<Met> {
    const path = join(this.#directory, String(epoch));
    const connection = createConnection(path);
    try {
      await once(connection, 'connect');
      return connection;
    } catch (error) {
      if (hasCode(error, 'ECONNREFUSED')) return 'dead';
      // Reset: it ended while it was asked.
      if (hasCode(error, 'ENOENT', 'ECONNRESET')) return 'gone';
      // Its queue is full: whoever should empty it is frozen or busy, but there.
      if (hasCode(error, 'EAGAIN')) return 'alive';
      throw unusable(`ask the holder of the lock at ${path}`, error);
    }
  }

  /** Resolves when the present holder's socket closes; in any case after a while. */
  async #holderEnds({ signal }: { signal: AbortSignal }): Promise<void> {
    const met = await this.#connect(await highestEpoch(this.#root));
    if (met === 'dead' || met === 'gone') return;
    const over = new AbortController();
    const slept = this.#clock.sleep(RECHECK_MS, { signal: AbortSignal.any([signal, over.signal]) });
    try {
      await (met === 'alive' ? slept : Promise.race([slept, ended(met)]));
    } finally {
      over.abort();
      if (met !== 'alive') met.destroy();
      await slept.catch(() => undefined);
    }
  }
}

/** false when the epoch was taken already, or the claim was swept by its new holder. */
async function linked(claim: string, entry: string): Promise<boolean> {
  try {
    await link(claim, entry);
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST', 'ENOENT')) return false;
    throw error;
  }
}

/** A sentence about the holder, from the line it answered with. */
function describe(line: string): string {
  const decoded = decodeObject(line);
  if (decoded.state === 'damaged') return 'another process, which does not answer (frozen or very busy)';
  const { command, pid, hostname: host, since } = decoded.content;
  return `${command} (pid ${pid} on ${host}, since ${since})`;
}
