import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { askService, CHANGE_STATUSES, type EndWith, helpEnd, reportSummary } from './service-command.ts';

interface RenewOptions {
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function renewCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('renew')
    .description('Renew certificates that are due, then bring them to their hosts')
    .argument('[names...]', 'names of certificates, as configured (default: all of them)')
    .option(
      '--force',
      'renew even what is not due, or waits after a failure; the rate limits of the CA are kept to all the same',
    )
    .option('--dry-run', 'print what would be done and why, and change nothing')
    .option('--json', 'print the summary as JSON')
    .addHelpText(
      'after',
      helpEnd(
        ['kacme renew', 'kacme renew --dry-run', 'kacme renew external --force', 'kacme renew --json | jq'],
        CHANGE_STATUSES,
      ),
    )
    .action(
      async (
        names: string[],
        { force = false, dryRun = false, json = false }: RenewOptions,
        command: Command,
      ) => {
        const summary = await askService(context, command, (service, options) =>
          service.renew({ names, force, dryRun }, options),
        );
        reportSummary(context, summary, { json }, endWith);
      },
    );
}
