import type { DiscoveryStatus, Status } from '../../domain/status.ts';
import type { ShownFailure } from './failure.ts';
import type { View } from './style.ts';
import { type Cell, renderTable } from './table.ts';
import { renderRelative } from './time.ts';

/** Where hosts are learned from; empty text when all are listed. */
export function discoveryTable({ discoveries }: Status, now: Date, view: View): string {
  if (discoveries.length === 0) return '';
  const rows = discoveries.map((discovery) => [
    discovery.pool,
    String(discovery.hosts),
    discovery.source,
    discovery.answeredAt === undefined ? '-' : renderRelative(discovery.answeredAt, now),
    ...stateOf(discovery),
  ]);
  return renderTable(['POOL', 'HOSTS', 'LEARNED FROM', 'LAST ANSWER', 'STATE', 'NOTE'], rows, view);
}

export function discoveryFailures({ discoveries, role }: Status, now: Date): readonly ShownFailure[] {
  return discoveries.flatMap(({ pool, hosts, failure }) => {
    if (failure === undefined) return [];
    const subject = `hosts of ${pool}, failing since ${renderRelative(failure.since, now)}`;
    const next =
      role === 'offline'
        ? 'nothing until `kacme serve` or `kacme distribute` runs'
        : `kacme asks again within a minute; meanwhile those known before are served (${hosts})`;
    return [{ subject, report: failure, next }];
  });
}

function stateOf({
  failure,
  answeredAt,
  doubts,
  missing,
  leftOut,
}: DiscoveryStatus): readonly (Cell | string)[] {
  if (failure !== undefined) return [{ text: 'failing', tone: 'bad' }, 'those known before stay'];
  if (answeredAt === undefined) return [{ text: 'unknown', tone: 'faint' }, 'not asked yet'];
  const notes = [
    ...(missing.length > 0 ? [`no longer named, gone after one more answer: ${missing.join(', ')}`] : []),
    ...leftOut.map(({ name, reason }) => `${name} is left out: ${reason}`),
    ...doubts,
  ];
  const inPart = leftOut.length > 0 || doubts.length > 0;
  return [
    inPart ? { text: 'in part', tone: 'warning' } : { text: 'known', tone: 'good' },
    notes.join('; ') || '-',
  ];
}
