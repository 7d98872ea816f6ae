import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { writeJson } from './output.ts';
import { isHealthy, renderStatus } from './render/status.ts';
import { viewOf } from './render/style.ts';
import { askService, type EndWith, helpEnd } from './service-command.ts';

export function statusCommand(context: CliContext, endWith: EndWith): Command {
  const { stdout, env } = context;
  return new Command('status')
    .description('Show certificates, hosts, what failed, and what happens next')
    .option('--json', 'print it as JSON')
    .addHelpText(
      'after',
      helpEnd(
        ['kacme status', 'kacme status --json | jq ".hosts[] | select(.reachable == false)"'],
        [
          '0  everything is as it should be',
          '1  the status could not be read',
          '2  wrong usage or configuration',
          '3  something failed or is not in sync',
        ],
      ),
    )
    .action(async ({ json = false }: { json?: boolean }, command: Command) => {
      const status = await askService(context, command, (service, { signal }) => service.status({ signal }));
      if (json) writeJson(stdout, status);
      else stdout.write(renderStatus(status, context.now(), viewOf(stdout, env)));
      endWith(isHealthy(status) ? 0 : 3);
    });
}
