import { oneLine, paint, type Tone, type View } from './style.ts';

export interface Cell {
  readonly text: string;
  readonly tone?: Tone | undefined;
}

const GAP = '  ';
const NARROWEST = 6;
const NARROWEST_LAST = 20;

/**
 * Aligned columns under headings, a newline after each row. On a terminal texts are cut until a row fits; otherwise
 * every text is whole.
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
  const widths = view.columns === undefined ? natural : narrow(natural, view.columns);
  return lines.map((cells) => renderRow(cells, widths, view)).join('');
}

function toCell(cell: Cell | string): Cell {
  return typeof cell === 'string' ? { text: oneLine(cell) } : { ...cell, text: oneLine(cell.text) };
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

/** The last column, which explains the others, gives way first; then whichever is widest. */
function narrow(natural: readonly number[], columns: number): readonly number[] {
  const widths = [...natural];
  const last = widths.length - 1;
  let surplus = widths.reduce((sum, width) => sum + width + GAP.length, -GAP.length) - columns;
  while (surplus > 0) {
    const column = (widths[last] ?? 0) > NARROWEST_LAST ? last : widths.indexOf(Math.max(...widths));
    const width = widths[column] ?? 0;
    if (width <= NARROWEST) break;
    widths[column] = width - 1;
    surplus -= 1;
  }
  return widths;
}

function cut(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}
