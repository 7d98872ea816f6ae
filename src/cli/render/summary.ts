import type { ErrorReport } from '../../domain/errors.ts';
import type { AdoptionSummary, CertificateResult, PlaceResult, Summary } from '../../domain/status.ts';
import { hostFailures, renderFailures, type ShownFailure, shortReason } from './failure.ts';
import { paint, type Tone, type View } from './style.ts';
import { type Cell, renderTable } from './table.ts';

const CERTIFICATE_TONES: Readonly<Record<CertificateResult['action'], Tone>> = {
  issued: 'good',
  created: 'good',
  adopted: 'good',
  'rolled back': 'good',
  kept: 'faint',
  planned: 'warning',
  revoked: 'good',
  pending: 'warning',
  failed: 'bad',
};

const OUTCOME_TONES: Readonly<Record<Summary['outcome'], Tone>> = {
  done: 'good',
  partly: 'warning',
  failed: 'bad',
};

/** What bootstrap, renew and distribute did, and how it ended, in one last line. */
export function renderSummary(summary: Summary, view: View): string {
  return [
    tableUnlessEmpty(['CERTIFICATE', 'ACTION', 'REASON'], summary.certificates.map(certificateRow), view),
    tableUnlessEmpty(
      ['POOL', 'HOST', 'CERTIFICATE', 'ACTION', 'IN SYNC', 'REASON'],
      summary.places.map(placeRow),
      view,
    ),
    renderFailures(failuresOf(summary), view),
    `${paint(summary.outcome, OUTCOME_TONES[summary.outcome], view)}: ${describeOutcome(summary)}\n`,
  ]
    .filter((part) => part !== '')
    .join('\n');
}

/** What `kacme adopt` found besides certificates: accounts, and sources that told nothing. */
export function renderAdoption({ accounts, problems }: AdoptionSummary, view: View): string {
  const found = accounts.map(({ issuer, action, reason }) => [
    issuer,
    { text: action, tone: CERTIFICATE_TONES[action] },
    reason,
  ]);
  return [
    tableUnlessEmpty(['ACCOUNT AT', 'ACTION', 'REASON'], found, view),
    tableUnlessEmpty(
      ['NOT READ', 'REASON'],
      problems.map(({ where, reason }) => [where, reason]),
      view,
    ),
  ]
    .filter((part) => part !== '')
    .map((part) => `${part}\n`)
    .join('');
}

function tableUnlessEmpty(
  headings: readonly string[],
  rows: readonly (readonly (Cell | string)[])[],
  view: View,
): string {
  return rows.length === 0 ? '' : renderTable(headings, rows, view);
}

function certificateRow({ certificate, action, reason }: CertificateResult): readonly (Cell | string)[] {
  return [certificate, { text: action, tone: CERTIFICATE_TONES[action] }, reason];
}

function placeRow(place: PlaceResult): readonly (Cell | string)[] {
  return [
    place.pool,
    place.host,
    place.certificate,
    { text: place.action, tone: place.action === 'failed' ? 'bad' : undefined },
    place.inSync ? { text: 'yes', tone: 'good' } : { text: 'no', tone: 'bad' },
    shortReason(place.reason, place),
  ];
}

function failuresOf({ certificates, places, unlearned = [] }: Summary): readonly ShownFailure[] {
  return [
    ...certificates.flatMap(({ certificate, failure }) =>
      failure === undefined
        ? []
        : [{ subject: `certificate ${certificate}`, report: failure, next: nextAfterCommand(failure) }],
    ),
    ...unlearned.map(({ pool, failure }) => ({
      subject: `hosts of ${pool}`,
      report: failure,
      next: nextAfterCommand(failure),
    })),
    ...hostFailures(places, nextAfterCommand),
  ];
}

function nextAfterCommand({ retry }: ErrorReport): string {
  return retry === 'never'
    ? 'nothing until this is repaired; then a running service goes on by itself, or run the command again'
    : 'a running service tries again by itself; without one, run the command again';
}

function describeOutcome({ certificates, places }: Summary): string {
  const changed = certificates.filter(({ action }) =>
    ['issued', 'created', 'adopted', 'rolled back'].includes(action),
  ).length;
  const planned = certificates.filter(({ action }) => action === 'planned').length;
  const inSync = places.filter((place) => place.inSync).length;
  const parts = [
    ...(certificates.length === 0 ? [] : [describeCertificates(changed, planned, certificates.length)]),
    ...(places.length === 0 ? [] : [`${inSync} of ${count(places.length, 'place')} in sync`]),
  ];
  return parts.length === 0 ? 'nothing to do' : parts.join(', ');
}

/** Only a dry run plans, and it changes nothing. */
function describeCertificates(changed: number, planned: number, all: number): string {
  return planned === 0
    ? `${changed} of ${count(all, 'certificate')} new`
    : `${planned} of ${count(all, 'certificate')} would be new`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
