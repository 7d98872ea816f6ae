import { type Counts, type SimulatedHostOptions, startSimulatedHost } from './host.ts';

/** What the bench asks a simulator for, over the channel of fork(). */
export type Order =
  | { readonly kind: 'start'; readonly hosts: readonly SimulatedHostOptions[] }
  | { readonly kind: 'count' };

/** How many hosts listen, or what they have seen so far. */
export type Report =
  | { readonly kind: 'started'; readonly hosts: number }
  | ({ readonly kind: 'counted' } & Counts);

const counts: Counts = { looks: 0, logins: 0, handshakes: 0, commits: 0, lastCommitMs: 0 };

async function obey(order: Order): Promise<Report> {
  if (order.kind === 'count') return { kind: 'counted', ...counts };
  for (const host of order.hosts) await startSimulatedHost(host, counts);
  return { kind: 'started', hosts: order.hosts.length };
}

// A host that cannot be started ends the process, which the bench reports.
process.on('message', (order: Order) => void obey(order).then((report) => process.send?.(report)));
process.on('disconnect', () => process.exit());
