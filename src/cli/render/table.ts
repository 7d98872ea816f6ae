import { oneLine, paint, type Tone, type View } from './style.ts';
import { withShortDates } from './time.ts';

export interface Cell {
  readonly text: string;
  readonly tone?: Tone | undefined;
}

const GAP = '  ';
const NARROWEST = 6;
const NARROWEST_LAST = 20;
const INDENT = '  ';

/**
 * Aligned columns under headings, a newline after each row. On a terminal texts are cut until a row fits: first the
 * last column, which explains the others; where too little of it would remain it gets lines of its own. Otherwise every
 * text is whole.
 */
export function renderTable(
  headings: readonly string[],
  rows: readonly (readonly (Cell | string)[])[],
  view: View,
): string {
  const lines: readonly (readonly Cell[])[] = [
    headings.map((text) => ({ text, tone: 'heading' as const })),
    ...rows.map((row) => row.map(toCell)),
  ];
  const natural = headings.map((_, column) =>
    Math.max(...lines.map((cells) => lengthOf(cells[column]?.text ?? ''))),
  );
  const { columns } = view;
  if (columns === undefined) return lines.map((cells) => renderRow(cells, natural, view)).join('');
  const names = natural.slice(0, -1);
  const last = natural.at(-1) ?? 0;
  const room = columns - totalOf(names) - GAP.length;
  if (room >= Math.min(last, NARROWEST_LAST)) {
    const widths = [...names, Math.min(last, room)];
    return lines.map((cells) => renderRow(cells, widths, view)).join('');
  }
  const widths = narrow(names, columns);
  const below = [Math.max(columns - INDENT.length, NARROWEST)];
  return lines
    .map((cells) => {
      const explanation = renderRow(cells.slice(-1), below, view);
      return `${renderRow(cells.slice(0, -1), widths, view)}${INDENT}${explanation}`;
    })
    .join('');
}

function toCell(cell: Cell | string): Cell {
  const { text, tone } = typeof cell === 'string' ? { text: cell } : cell;
  return { text: withShortDates(oneLine(text)), tone };
}

function totalOf(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width + GAP.length, -GAP.length);
}

function renderRow(cells: readonly Cell[], widths: readonly number[], view: View): string {
  const texts = cells.map(({ text, tone }, column) => {
    const width = widths[column] ?? 0;
    const shown = cut(text, width);
    const padding = column === cells.length - 1 ? '' : ' '.repeat(width - lengthOf(shown));
    return `${paint(shown, tone, view)}${padding}`;
  });
  return `${texts.join(GAP)}\n`;
}

/** Whichever is widest gives way. */
function narrow(natural: readonly number[], columns: number): readonly number[] {
  const widths = [...natural];
  for (let surplus = totalOf(widths) - columns; surplus > 0; surplus -= 1) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST) break;
    widths[widths.indexOf(widest)] = widest - 1;
  }
  return widths;
}

/** At most `width` characters, with an ellipsis where some are missing. */
export function cut(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}
