import { Command } from 'commander';
import type { CliContext } from './context.ts';
import { globalOptions } from './global-options.ts';
import { helpEnd } from './service-command.ts';

export function serveCommand(context: CliContext): Command {
  return new Command('serve')
    .description('Run the service: answer challenges, renew what is due, keep every host in sync')
    .addHelpText(
      'after',
      `
Runs in the foreground and logs to stderr. SIGTERM and SIGINT stop it cleanly, a
second one at once; SIGHUP reads the configuration again.
${helpEnd(
  ['kacme serve', 'kacme serve --config base.yaml --config site.yaml --log-level debug'],
  ['0  stopped as asked', '1  could not start, or failed', '2  wrong usage or configuration'],
)}`,
    )
    .action(async (_options: unknown, command: Command) => {
      await context.serve(globalOptions(command), { signal: context.signal });
    });
}
