import type { ErrorReport } from '../../domain/errors.ts';
import { oneLine, paint, type View } from './style.ts';

/** A failure as an operator reads it: where, which, why, what to do, what kacme does about it by itself. */
export interface ShownFailure {
  /** Such as `certificate external` or `host 10.0.0.12 (loadbalancers)`. */
  readonly subject: string;
  readonly report: ErrorReport;
  /** What happens next if nobody does anything. */
  readonly next: string;
}

/** Blocks of lines that are never cut; empty text for no failures. */
export function renderFailures(failures: readonly ShownFailure[], view: View): string {
  if (failures.length === 0) return '';
  const blocks = failures.map(({ subject, report, next }) =>
    [
      `${paint(oneLine(subject), 'bad', view)}: ${report.code}`,
      `  ${oneLine(report.message)}`,
      ...(report.remedy === undefined ? [] : [`  what to do: ${oneLine(report.remedy)}`]),
      `  what happens next: ${oneLine(next)}`,
    ].join('\n'),
  );
  return `${paint('FAILURES', 'heading', view)}\n${blocks.join('\n')}\n`;
}
