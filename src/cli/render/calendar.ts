import type { IssuerCalendar, RenewalCalendar, UsedOf } from '../../domain/renewal-calendar.ts';
import { renderFailures } from './failure.ts';
import { paint, type View } from './style.ts';
import { renderTable } from './table.ts';
import { renderMoment, renderRelative } from './time.ts';

/** The coming orders in the order of time, the use of each limit, and then what needs somebody's eye. */
export function renderCalendar(calendar: RenewalCalendar, view: View): string {
  const { at, days, issuers, rehearsals, unreadable } = calendar;
  const failures = unreadable.map(({ certificate, failure }) => ({
    subject: `certificate ${certificate}`,
    report: failure,
    next: 'nothing until the store is repaired; it is not in this plan',
  }));
  return [
    `plan for ${days} ${days === 1 ? 'day' : 'days'} from ${renderMoment(at)}, if nothing fails\n`,
    orderTable(calendar, view),
    ...rehearsals.map(
      ({ certificate, issuer, staging }) =>
        `${certificate} is rehearsed at ${staging} before ${issuer} is asked\n`,
    ),
    limitTable(issuers, view),
    ...issuers.map((issuer) => warningsOf(issuer, view)),
    renderFailures(failures, view),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

/** False when a certificate would expire, or could not be planned. */
export function isSafe({ issuers, unreadable }: RenewalCalendar): boolean {
  return unreadable.length === 0 && issuers.every(({ expiring }) => expiring.length === 0);
}

function orderTable({ issuers, at }: RenewalCalendar, view: View): string {
  const now = new Date(at);
  const orders = issuers
    .flatMap(({ issuer, orders }) => orders.map((order) => ({ issuer, ...order })))
    .sort((a, b) => a.at.localeCompare(b.at));
  if (orders.length === 0) return 'nothing is ordered in this time\n';
  return renderTable(
    ['WHEN', 'IN', 'CERTIFICATE', 'ISSUER', 'COUNTS AS', 'REASON'],
    orders.map(({ at, certificate, issuer, kind, reason }) => [
      renderMoment(at),
      renderRelative(at, now),
      certificate,
      issuer,
      kind,
      reason,
    ]),
    view,
  );
}

function limitTable(issuers: readonly IssuerCalendar[], view: View): string {
  const rows = issuers.flatMap(({ issuer, limits }) =>
    limits.map(({ limit, capacity, now, peak }) => [
      issuer,
      limit,
      String(capacity),
      describeUse(now),
      describeUse(peak),
      renderMoment(peak?.at),
    ]),
  );
  if (rows.length === 0) return 'no limits of these issuers are known: see limits in docs/configuration.md\n';
  return renderTable(['ISSUER', 'LIMIT', 'OF', 'USED NOW', 'MOST AHEAD', 'AT'], rows, view);
}

const describeUse = (use: UsedOf | undefined): string =>
  use === undefined ? '-' : `${use.used} (${use.subject})`;

function warningsOf({ issuer, waits, expiring, unissued }: IssuerCalendar, view: View): string {
  const [first] = waits;
  const last = waits.at(-1);
  const lines = [
    ...expiring.map(({ certificate, at }) =>
      paint(`${certificate} expires at ${renderMoment(at)}, before ${issuer} renews it`, 'bad', view),
    ),
    ...(first === undefined || last === undefined
      ? []
      : [
          paint(
            `certificates wait for a limit of ${issuer} on ${waits.length} days from ${first.day.slice(0, 10)} to ${last.day.slice(0, 10)}`,
            'warning',
            view,
          ),
        ]),
    ...(unissued.length === 0
      ? []
      : [
          paint(
            `without a certificate of ${issuer} at the end: ${unissued.length} (${unissued.slice(0, 5).join(', ')}${unissued.length > 5 ? ', ...' : ''})`,
            'warning',
            view,
          ),
        ]),
  ];
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
