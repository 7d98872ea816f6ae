import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { writeJson } from './output.ts';
import { renderReload } from './render/reload.ts';
import { viewOf } from './render/style.ts';
import { askService, type EndWith, helpEnd, STATUS_OF_OUTCOME } from './service-command.ts';

interface ReloadOptions {
  readonly pool?: string;
  readonly host?: string;
  readonly json?: boolean;
}

export function reloadCommand(context: CliContext, endWith: EndWith): Command {
  const { stdout, env } = context;
  return new Command('reload')
    .description('Have HAProxy take over a changed configuration of its own, host by host, without a break')
    .option('--pool <pool>', 'only the hosts of this pool')
    .option('--host <host>', 'only this host, named as in the configuration')
    .option('--json', 'print what was done as JSON')
    .addHelpText(
      'after',
      [
        '',
        'On each host: prepare and validate as configured (pools.NAME.reload), reload seamlessly, wait for the new worker,',
        'and verify by handshakes. Stops at the first host that fails. An operator who reloads by hand does not wait for',
        'the maintenance window of the pool.',
        helpEnd(
          ['kacme reload', 'kacme reload --pool loadbalancers', 'kacme reload --host 10.0.0.11'],
          [
            '0  every host was reloaded',
            '1  failed: no host was reloaded',
            '2  wrong usage or configuration',
            '3  partly done: a host failed, those after it were not touched',
          ],
        ),
      ].join('\n'),
    )
    .action(async ({ pool, host, json = false }: ReloadOptions, command: Command) => {
      const summary = await askService(context, command, (service, options) =>
        service.reload({ pool, host }, options),
      );
      if (json) writeJson(stdout, summary);
      else stdout.write(renderReload(summary, viewOf(stdout, env)));
      endWith(STATUS_OF_OUTCOME[summary.outcome]);
    });
}
