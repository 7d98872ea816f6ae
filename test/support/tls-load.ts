import { Agent, request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

export interface TlsTarget {
  readonly address: string;
  readonly port: number;
  readonly servername: string;
  /** What it answers requests with; 200. */
  readonly status?: number;
}

export interface TlsLoadOptions {
  readonly workers?: number;
  /** False (the default): a new connection and a full handshake for every request. */
  readonly keepAlive?: boolean;
  /** A pause of each worker between two requests; 0. */
  readonly pauseMs?: number;
  readonly signal?: AbortSignal;
}

export interface TlsLoadCounts {
  readonly ok: number;
  readonly failed: number;
  /** Failures by what the client saw, such as ECONNRESET. */
  readonly reasons: Readonly<Record<string, number>>;
  /** Requests by the leaf that served them (SHA-256, lower-case hex). */
  readonly leaves: Readonly<Record<string, number>>;
}

export interface TlsLoad extends AsyncDisposable {
  counts(): TlsLoadCounts;
  /** Lets the requests under way finish; resolves to the final counts. Idempotent. */
  stop(): Promise<TlsLoadCounts>;
}

/** Workers that ask the targets in turn until `stop` or the signal: users, as HAProxy sees them. */
export function startTlsLoad(targets: readonly TlsTarget[], options: TlsLoadOptions = {}): TlsLoad {
  const stopped = new AbortController();
  const signal = AbortSignal.any([stopped.signal, ...(options.signal ? [options.signal] : [])]);
  const counts = {
    ok: 0,
    failed: 0,
    reasons: {} as Record<string, number>,
    leaves: {} as Record<string, number>,
  };
  const agent = new Agent({ keepAlive: options.keepAlive ?? false, maxCachedSessions: 0 });
  const work = async (offset: number) => {
    for (let i = offset; !signal.aborted; i++) {
      const target = targets[i % targets.length];
      if (target === undefined) return;
      try {
        const leaf = await ask(target, agent);
        counts.ok++;
        counts.leaves[leaf] = (counts.leaves[leaf] ?? 0) + 1;
      } catch (error) {
        const reason = reasonOf(error);
        counts.failed++;
        counts.reasons[reason] = (counts.reasons[reason] ?? 0) + 1;
        await sleep(10); // A refused connection fails at once: do not spin.
      }
      if (options.pauseMs !== undefined) await sleep(options.pauseMs);
    }
  };
  const workers = Promise.all(Array.from({ length: options.workers ?? 8 }, (_, i) => work(i)));
  const stop = async () => {
    stopped.abort();
    await workers;
    agent.destroy();
    return structuredClone(counts);
  };
  return {
    counts: () => structuredClone(counts),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

function ask({ address, port, servername, status = 200 }: TlsTarget, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    let leaf = 'unknown';
    const outgoing = request(
      // Whose certificate it is, is what is measured: it cannot be a condition.
      { host: address, port, servername, agent, path: '/', rejectUnauthorized: false, timeout: 5_000 },
      (response) => {
        response.on('error', reject).on('end', () => {
          if (response.statusCode === status) resolve(leaf);
          else reject(new Error(`HTTP ${response.statusCode}`));
        });
        response.resume();
      },
    );
    outgoing.on('socket', (socket) => {
      const read = () => {
        if ('getPeerCertificate' in socket && typeof socket.getPeerCertificate === 'function') {
          const fingerprint: unknown = socket.getPeerCertificate().fingerprint256;
          if (typeof fingerprint === 'string') leaf = fingerprint.replaceAll(':', '').toLowerCase();
        }
      };
      if (outgoing.reusedSocket) read();
      else socket.once('secureConnect', read);
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 5 s')));
    outgoing.on('error', reject);
    outgoing.end();
  });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
