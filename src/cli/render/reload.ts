import type { ReloadResult, ReloadSummary } from '../../domain/status.ts';
import { renderFailures } from './failure.ts';
import { paint, type Tone, type View } from './style.ts';
import { renderTable } from './table.ts';

const TONES: Readonly<Record<ReloadResult['action'] | ReloadSummary['outcome'], Tone>> = {
  reloaded: 'good',
  failed: 'bad',
  untouched: 'warning',
  done: 'good',
  partly: 'warning',
};

/** What `kacme reload` did to each host, in the order it went. */
export function renderReload({ outcome, hosts }: ReloadSummary, view: View): string {
  const rows = hosts.map(({ pool, host, action, reason, failure }) => [
    pool,
    host,
    { text: action, tone: TONES[action] },
    failure === undefined ? reason : failure.code,
  ]);
  const failures = hosts.flatMap(({ pool, host, failure }) =>
    failure === undefined
      ? []
      : [{ subject: `${pool}/${host}`, report: failure, next: 'run kacme reload again when it is repaired' }],
  );
  const reloaded = hosts.filter(({ action }) => action === 'reloaded').length;
  return [
    renderTable(['POOL', 'HOST', 'ACTION', 'REASON'], rows, view),
    renderFailures(failures, view),
    `${paint(outcome, TONES[outcome], view)}: ${reloaded} of ${hosts.length} hosts reloaded\n`,
  ]
    .filter((part) => part !== '')
    .join('\n');
}
