import type { ErrorReport } from '../../domain/errors.ts';
import { oneLine, paint, type View } from './style.ts';
import { withShortDates } from './time.ts';

/** A failure as an operator reads it: where, which, why, what to do, what kacme does about it by itself. */
export interface ShownFailure {
  /** Such as `certificate external` or `host 10.0.0.12 of loadbalancers (external)`. */
  readonly subject: string;
  /** Named below the subject, where that only counts them. */
  readonly hosts?: readonly string[];
  readonly report: ErrorReport;
  /** What happens next if nobody does anything. */
  readonly next: string;
}

/** One place, as status and summaries tell of it. */
interface Place {
  readonly pool: string;
  readonly host: string;
  readonly certificate: string;
  readonly failure: ErrorReport | undefined;
  readonly retryAt?: string;
}

/** Blocks of lines that are never cut; empty text for no failures. */
export function renderFailures(failures: readonly ShownFailure[], view: View): string {
  if (failures.length === 0) return '';
  const blocks = failures.map(({ subject, hosts, report, next }) =>
    [
      `${paint(oneLine(subject), 'bad', view)}: ${report.code}`,
      ...(hosts === undefined ? [] : [`  ${oneLine(hosts.join(', '))}`]),
      `  ${oneLine(report.message)}`,
      ...(report.remedy === undefined ? [] : [`  what to do: ${oneLine(report.remedy)}`]),
      `  what happens next: ${withShortDates(oneLine(next))}`,
    ].join('\n'),
  );
  return `${paint('FAILURES', 'heading', view)}\n${blocks.join('\n')}\n`;
}

/** What fails alike, in all places of a host or on many hosts of a pool, is said once. */
export function hostFailures(
  places: readonly Place[],
  next: (report: ErrorReport, retryAt: string | undefined) => string,
): readonly ShownFailure[] {
  const ofHosts = groupBy(places.flatMap(failedPlace), ({ pool, host, report }) =>
    JSON.stringify([pool, host, report.code, report.message]),
  ).map((group) => ({ ...group[0], certificates: group.map(({ certificate }) => certificate).join(', ') }));
  const alike = groupBy(ofHosts, ({ pool, host, certificates, report }) => {
    const { code, message, remedy } = generalized(report, pool, host);
    return JSON.stringify([pool, certificates, code, message, remedy]);
  });
  return alike.map((group) => {
    const [{ pool, host, certificates, report, retryAt }] = group;
    if (group.length === 1)
      return { subject: `host ${host} of ${pool} (${certificates})`, report, next: next(report, retryAt) };
    return {
      subject: `${group.length} hosts of ${pool} (${certificates})`,
      hosts: group.map((one) => one.host),
      report: generalized(report, pool, host),
      next: next(report, retryAt),
    };
  });
}

/** Why a place is as it is, for a table that names pool and host beside it. */
export function shortReason(reason: string, { pool, host }: Pick<Place, 'pool' | 'host'>): string {
  const name = `${pool}/${host}`;
  if (!reason.startsWith(name)) return reason;
  return reason.slice(name.length).replace(/^(?: \([^)]*\))?: /, '');
}

function failedPlace({ failure, ...place }: Place) {
  return failure === undefined ? [] : [{ ...place, report: failure }];
}

/** What remains of a report when it is about any host: `{host}` stands for it, as in the configuration. */
function generalized(report: ErrorReport, pool: string, host: string): ErrorReport {
  const escaped = host.replace(/[^\w]/g, '\\$&');
  const name = new RegExp(`(?<![\\w.:-])${escaped}(?![\\w-]|\\.\\w)`, 'g');
  const general = (text: string) => text.replace(name, '{host}');
  return {
    ...report,
    message: general(shortReason(report.message, { pool, host })),
    ...(report.remedy === undefined ? {} : { remedy: general(report.remedy) }),
  };
}

type NonEmpty<T> = readonly [T, ...T[]];

/** In the order in which the first of each group stands. */
function groupBy<T>(values: readonly T[], keyOf: (value: T) => string): readonly NonEmpty<T>[] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const value of values) {
    const key = keyOf(value);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [value]);
    else group.push(value);
  }
  return [...groups.values()];
}
