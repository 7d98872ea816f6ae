import type { Measure } from './benchmark.ts';
import { type Spread, spreadOf } from './statistics.ts';

export interface ReportedMeasure extends Measure, Spread {
  /** Undefined without a target. */
  readonly met: boolean | undefined;
}

export function judge(measure: Measure): ReportedMeasure {
  const spread = spreadOf(measure.samples);
  const { target } = measure;
  return { ...measure, ...spread, met: target === undefined ? undefined : spread.median <= target };
}

const HEAD = ['', 'unit', 'target', 'median', '', 'min', 'p25', 'p75', 'max', 'runs'];

/** A plain text table: one line per measure. */
export function renderTable(measures: readonly ReportedMeasure[]): string {
  const rows = [HEAD, ...measures.map(cellsOf)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) => row.map((cell, i) => pad(cell, widths[i] ?? 0, i)).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

function cellsOf(measure: ReportedMeasure): string[] {
  const { title, unit, target, met, runs } = measure;
  const number = (value: number) => value.toFixed(unit === 'MB' ? 1 : 0);
  const { median, min, p25, p75, max } = measure;
  return [
    title,
    unit,
    target === undefined ? '' : `<= ${target}`,
    number(median),
    met === undefined ? '' : met ? 'met' : 'MISSED',
    ...[min, p25, p75, max].map(number),
    String(runs),
  ];
}

/** Words to the left, numbers to the right. */
function pad(cell: string, width: number, column: number): string {
  return column <= 1 || column === 4 ? cell.padEnd(width) : cell.padStart(width);
}
