import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { askService, CHANGE_STATUSES, type EndWith, helpEnd, reportSummary } from './service-command.ts';

interface DistributeOptions {
  readonly host?: string;
  readonly json?: boolean;
}

export function distributeCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('distribute')
    .description('Bring every host to its bundles now, instead of at the next pass of the service')
    .option(
      '--host <host>',
      'only this host, named as in the configuration (one that is discovered: as in kacme status)',
    )
    .option('--json', 'print the summary as JSON')
    .addHelpText('after', helpEnd(['kacme distribute', 'kacme distribute --host 10.0.0.11'], CHANGE_STATUSES))
    .action(async ({ host, json = false }: DistributeOptions, command: Command) => {
      const summary = await askService(context, command, (service, options) =>
        service.distribute({ host }, options),
      );
      reportSummary(context, summary, { json }, endWith);
    });
}
