import type { Command } from 'commander';
import type { Summary } from '../domain/status.ts';
import type { CommandOptions, KacmeService } from '../ports/service.ts';
import type { CliContext, ExitStatus } from './context.ts';
import { globalOptions } from './global-options.ts';
import { writeJson } from './output.ts';
import { progressFor } from './progress.ts';
import { viewOf } from './render/style.ts';
import { renderSummary } from './render/summary.ts';

/** Sets the exit status of the process; 0 when it is never called. */
export type EndWith = (status: ExitStatus) => void;

/** Asks the service that `command`'s options lead to; progress goes to stderr. */
export async function askService<T>(
  context: CliContext,
  command: Command,
  ask: (service: KacmeService, options: CommandOptions) => Promise<T>,
): Promise<T> {
  const { signal } = context;
  const options = globalOptions(command);
  const handle = await context.connect(options, { signal });
  const progress = progressFor(context, options);
  try {
    const answer = await ask(handle.service, { signal, onProgress: ({ message }) => progress.tell(message) });
    progress.clear();
    return answer;
  } catch (error) {
    progress.keep();
    throw error;
  } finally {
    await handle.close();
  }
}

export const STATUS_OF_OUTCOME: Readonly<Record<Summary['outcome'], ExitStatus>> = {
  done: 0,
  failed: 1,
  partly: 3,
};

/** Prints what a command did, and turns its outcome into the exit status. */
export function reportSummary(
  { stdout, env }: CliContext,
  summary: Summary,
  { json }: { json: boolean },
  endWith: EndWith,
): void {
  if (json) writeJson(stdout, summary);
  else stdout.write(renderSummary(summary, viewOf(stdout, env)));
  endWith(STATUS_OF_OUTCOME[summary.outcome]);
}

/** The end of every command's help: what scripts rely on. */
export function helpEnd(examples: readonly string[], statuses: readonly string[]): string {
  return [
    '',
    'Examples:',
    ...examples.map((example) => `  ${example}`),
    '',
    'Exit status:',
    ...statuses.map((status) => `  ${status}`),
  ].join('\n');
}

export const CHANGE_STATUSES: readonly string[] = [
  '0  done, or nothing to do',
  '1  failed',
  '2  wrong usage or configuration',
  '3  partly done: some hosts are not in sync',
];
