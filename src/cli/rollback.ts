import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { askService, CHANGE_STATUSES, type EndWith, helpEnd, reportSummary } from './service-command.ts';

interface RollbackOptions {
  readonly to?: string;
  readonly json?: boolean;
}

export function rollbackCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('rollback')
    .description('Go back to the bundle before the present one, and bring it to every host')
    .argument('<name>', 'name of the certificate, as configured')
    .option(
      '--to <fingerprint>',
      'this bundle: the SHA-256 fingerprint of its leaf in hex, or its first digits',
    )
    .option('--json', 'print the summary as JSON')
    .addHelpText(
      'after',
      [
        '',
        'Never goes to a bundle that is revoked, expired or self-signed, covers less than is configured, or whose key was',
        'destroyed (keepBundles). The bundle is not renewed until a third of what it has left; `kacme renew NAME --force`',
        'orders a new one sooner.',
        helpEnd(['kacme rollback external', 'kacme rollback external --to 4f1c2a9be0d3'], CHANGE_STATUSES),
      ].join('\n'),
    )
    .action(async (name: string, { to, json = false }: RollbackOptions, command: Command) => {
      const summary = await askService(context, command, (service, options) =>
        service.rollback({ name, to }, options),
      );
      reportSummary(context, summary, { json }, endWith);
    });
}
