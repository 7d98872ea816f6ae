import type { CliContext, GlobalOptions } from './context.ts';
import { oneLine, paint, viewOf } from './render/style.ts';
import { cut } from './render/table.ts';

/** What long work tells while it goes on, on stderr. */
export interface ProgressOutput {
  tell(message: string): void;
  /** The result follows and says it all again. */
  clear(): void;
  /** No result follows: what was told so far is all there is. */
  keep(): void;
}

const TO_END_OF_LINE = '\u001b[K';

/**
 * Lines; but where a person sees stdout on the same terminal, one line that is overwritten, since the tables that
 * follow say the same. A log in between, or a terminal that cannot erase, asks for lines.
 */
export function progressFor(
  { stdout, stderr, env }: Pick<CliContext, 'stdout' | 'stderr' | 'env'>,
  { logLevel }: Pick<GlobalOptions, 'logLevel'>,
): ProgressOutput {
  const view = viewOf(stderr, env);
  const faint = (text: string): string => paint(text, 'faint', view);
  const writeLine = (message: string): void => void stderr.write(`${faint(oneLine(message))}\n`);
  const { columns } = view;
  const { TERM: terminal } = env;
  const overwrites = stdout.isTTY === true && terminal !== 'dumb' && logLevel === undefined;
  if (!overwrites || columns === undefined) return { tell: writeLine, clear: () => {}, keep: () => {} };

  const told: string[] = [];
  const erase = (): void => {
    if (told.length > 0) stderr.write(`\r${TO_END_OF_LINE}`);
  };
  return {
    tell: (message) => {
      told.push(message);
      stderr.write(`\r${faint(cut(oneLine(message), columns - 1))}${TO_END_OF_LINE}`);
    },
    clear: erase,
    keep: () => {
      erase();
      told.forEach(writeLine);
    },
  };
}
