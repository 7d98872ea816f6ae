import { Command } from 'commander';
import { KacmeError } from '../domain/errors.ts';
import type { CliContext } from './context.ts';
import { globalOptions } from './global-options.ts';
import { helpEnd } from './service-command.ts';

export function reloadConfigCommand(context: CliContext): Command {
  const { signal, stdout } = context;
  return new Command('reload-config')
    .description('Make the running service read its configuration files again')
    .addHelpText(
      'after',
      `
The new configuration is taken over whole or, if anything in it is wrong, refused
whole: the service goes on with the old one. SIGHUP does the same; then only the
log tells how it went.
${helpEnd(
  ['kacme reload-config'],
  ['0  taken over', '1  no service runs, or it failed', '2  the configuration was refused'],
)}`,
    )
    .action(async (_options: unknown, command: Command) => {
      const handle = await context.connect(globalOptions(command), { signal });
      try {
        if (handle.via === 'direct') throw noServiceRuns();
        await handle.service.reloadConfig({ signal });
      } finally {
        await handle.close();
      }
      stdout.write('configuration taken over\n');
    });
}

function noServiceRuns(): KacmeError {
  return new KacmeError(
    'ERR_CONTROL_UNREACHABLE',
    'reload-config: no service answers at the control socket, so there is none to reload',
    { retry: 'never', remedy: 'start it with `kacme serve`, which reads the configuration as it is now' },
  );
}
