import { stripVTControlCharacters, styleText } from 'node:util';
import type { Environment, Output } from '../context.ts';

/** What a piece of text means; the colour follows from it. */
export type Tone = 'good' | 'warning' | 'bad' | 'faint' | 'heading';

/** How the reader's end takes text. */
export interface View {
  readonly colour: boolean;
  /** Lines are cut at this width; undefined never cuts. */
  readonly columns: number | undefined;
}

const FORMATS = {
  good: 'green',
  warning: 'yellow',
  bad: 'red',
  faint: 'gray',
  heading: 'bold',
} as const satisfies Record<Tone, Parameters<typeof styleText>[0]>;

/** Colours only for a terminal, unless NO_COLOR is set (https://no-color.org); plain and uncut when piped. */
export function viewOf(output: Output, env: Environment): View {
  if (output.isTTY !== true) return { colour: false, columns: undefined };
  const { NO_COLOR: noColour = '', TERM: terminal } = env;
  // A terminal that does not know its width says 0.
  const columns = output.columns === 0 ? undefined : output.columns;
  return { colour: noColour === '' && terminal !== 'dumb', columns };
}

export function paint(text: string, tone: Tone | undefined, { colour }: Pick<View, 'colour'>): string {
  // validateStream would look at this process' stdout: the view has been asked already.
  return colour && tone !== undefined ? styleText(FORMATS[tone], text, { validateStream: false }) : text;
}

/** One line without control characters: words of a CA or a host must not steer the operator's terminal. */
export function oneLine(text: string): string {
  return stripVTControlCharacters(text)
    .replaceAll(/\p{Cc}+/gu, ' ')
    .trim();
}
