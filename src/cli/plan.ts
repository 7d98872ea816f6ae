import { Command, InvalidArgumentError } from 'commander';
import type { CliContext } from './context.ts';
import { writeJson } from './output.ts';
import { isSafe, renderCalendar } from './render/calendar.ts';
import { viewOf } from './render/style.ts';
import { askService, type EndWith, helpEnd } from './service-command.ts';

const DEFAULT_DAYS = 90;
/** Two years of ten thousand certificates take a quarter of a minute. */
const MOST_DAYS = 730;

export function planCommand(context: CliContext, endWith: EndWith): Command {
  const { stdout, env } = context;
  return new Command('plan')
    .description('Show the coming renewals and their use of the rate limits of the CAs; changes nothing')
    .option('--days <number>', `how far to look ahead, 1 to ${MOST_DAYS}`, parseDays, DEFAULT_DAYS)
    .option('--json', 'print it as JSON')
    .addHelpText(
      'after',
      helpEnd(
        ['kacme plan', 'kacme plan --days 365', 'kacme plan --json | jq ".issuers[].limits"'],
        [
          '0  everything is renewed in time if nothing fails',
          '1  the plan could not be made',
          '2  wrong usage or configuration',
          '3  a certificate would expire, or its records cannot be read',
        ],
      ),
    )
    .action(async ({ days, json = false }: { days: number; json?: boolean }, command: Command) => {
      const calendar = await askService(context, command, (service, { signal }) =>
        service.calendar({ days }, { signal }),
      );
      if (json) writeJson(stdout, calendar);
      else stdout.write(renderCalendar(calendar, viewOf(stdout, env)));
      endWith(isSafe(calendar) ? 0 : 3);
    });
}

function parseDays(text: string): number {
  const days = Number(text);
  if (Number.isInteger(days) && days >= 1 && days <= MOST_DAYS) return days;
  throw new InvalidArgumentError(`Expected a whole number from 1 to ${MOST_DAYS}.`);
}
