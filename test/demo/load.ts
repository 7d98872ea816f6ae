import { eventually } from '../support/eventually.ts';
import type { TestHost } from '../support/host.ts';
import { startTlsLoad, type TlsLoadCounts } from '../support/tls-load.ts';
import type { Served } from './scene.ts';
import { CERTIFICATES } from './stage.ts';
import { Unexpected } from './unexpected.ts';

export interface Load extends AsyncDisposable {
  /** Requests answered so far. */
  answered(): number;
  /** Resolves once that many have been answered. */
  hasAnswered(requests: number): Promise<void>;
  /** Ends it; resolves to how many were answered under each generation. Throws `Unexpected` if any request failed. */
  end(old: Served, renewed: Partial<Served>): Promise<{ readonly before: number; readonly after: number }>;
}

/** Clients of every host: most with a new connection and a full handshake each time, some that keep theirs. */
export function startLoad(hosts: readonly TestHost[], signal: AbortSignal): Load {
  const targets = hosts.flatMap(({ address, haproxy }) =>
    Object.values(CERTIFICATES).map(({ names }) => ({
      address,
      port: haproxy.tlsPort,
      servername: names[0],
    })),
  );
  const loads = [
    startTlsLoad(targets, { workers: 6, pauseMs: 2, signal }),
    startTlsLoad(targets, { workers: 2, pauseMs: 2, keepAlive: true, signal }),
  ];
  const answered = () => loads.reduce((sum, load) => sum + load.counts().ok, 0);
  const stop = () => Promise.all(loads.map((load) => load.stop()));
  return {
    answered,
    hasAnswered: async (requests) => {
      await eventually(`${requests} requests are answered`, () => answered() >= requests, {
        signal,
        timeoutMs: 30_000,
      });
    },
    end: async (old, renewed) => {
      const counts = await stop();
      signal.throwIfAborted();
      const failures = counts.flatMap(({ reasons }) =>
        Object.entries(reasons).map(([reason, times]) => `${times} x ${reason}`),
      );
      if (failures.length > 0) throw new Unexpected(`requests failed: ${failures.join(', ')}`);
      const before = servedUnder(old, counts);
      const after = servedUnder(renewed, counts);
      if (before === 0 || after === 0)
        throw new Unexpected(`the load was not there all the time: ${before} before, ${after} after`);
      return { before, after };
    },
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

function servedUnder(served: Partial<Served>, counts: readonly TlsLoadCounts[]): number {
  const leaves = Object.values(served).map(({ fingerprint256 }) => fingerprint256);
  return counts
    .flatMap((each) => leaves.map((leaf) => each.leaves[leaf] ?? 0))
    .reduce((sum, requests) => sum + requests, 0);
}
