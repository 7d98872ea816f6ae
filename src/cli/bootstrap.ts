import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { askService, CHANGE_STATUSES, type EndWith, helpEnd, reportSummary } from './service-command.ts';

export function bootstrapCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('bootstrap')
    .description('Create what is missing, so that HAProxy can start before the first certificate is issued')
    .summary('Create account keys and self-signed bundles, and install them where nothing better is')
    .option('--json', 'print the summary as JSON')
    .addHelpText(
      'after',
      `
Makes an account key for each issuer and a self-signed bundle for each
certificate that has none, and installs the bundles on hosts that hold nothing
better, whether HAProxy runs there or not. It asks nothing, never touches a valid
certificate, and can be repeated.
${helpEnd(['kacme bootstrap', 'kacme bootstrap --json --config /etc/kacme/kacme.yaml'], CHANGE_STATUSES)}`,
    )
    .action(async ({ json = false }: { json?: boolean }, command: Command) => {
      const summary = await askService(context, command, (service, options) => service.bootstrap(options));
      reportSummary(context, summary, { json }, endWith);
    });
}
