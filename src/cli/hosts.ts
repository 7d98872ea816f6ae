import { Command, InvalidArgumentError } from 'commander';
import type { HostKeyScan } from '../ports/host-key-scan.ts';
import type { CliContext, ExitStatus } from './context.ts';
import { globalOptions } from './global-options.ts';
import { writeJson } from './output.ts';
import { renderHostKeys, renderKnownHosts } from './render/host-keys.ts';
import { viewOf } from './render/style.ts';
import { type EndWith, helpEnd } from './service-command.ts';

interface ScanOptions {
  readonly pool?: string;
  readonly port?: number;
  readonly json?: boolean;
}

/** `kacme hosts`: what concerns hosts before kacme may reach them. */
export function hostsCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('hosts')
    .description('Look at the hosts before kacme may reach them')
    .addCommand(scanCommand(context, endWith));
}

function scanCommand(context: CliContext, endWith: EndWith): Command {
  const { signal, stdout, stderr, env } = context;
  return new Command('scan')
    .description(
      'Print the host keys that hosts and jump hosts present, to compare and then to pin; pins nothing',
    )
    .argument(
      '[host...]',
      'names of hosts, or addresses of jump hosts (default: all of them, also those that are discovered)',
    )
    .option('--pool <name>', 'only this pool')
    .option('--port <number>', 'ask at this port instead of the configured one of the hosts', parsePort)
    .option('--json', 'print it as JSON')
    .addHelpText(
      'after',
      helpEnd(
        [
          'kacme hosts scan',
          'kacme hosts scan --pool loadbalancers',
          'kacme hosts scan 10.0.0.11                                  look, and compare on the host itself:',
          '  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub',
          'kacme hosts scan 10.0.0.11 >> /etc/kacme/known_hosts        then pin',
        ],
        [
          '0  every host has answered, and no key differs from a pinned one or is revoked',
          '1  no host has answered',
          '2  wrong usage or configuration',
          '3  some hosts have not answered, or a key differs or is revoked',
        ],
      ),
    )
    .action(async (names: readonly string[], options: ScanOptions, command: Command) => {
      const { pool, port, json = false } = options;
      const scans = await context.scanHosts(globalOptions(command), { names, pool, port }, { signal });
      if (json) writeJson(stdout, { hosts: scans });
      else {
        stderr.write(renderHostKeys(scans, viewOf(stderr, env)));
        stdout.write(renderKnownHosts(scans));
      }
      endWith(statusOf(scans));
    });
}

function statusOf(scans: readonly HostKeyScan[]): ExitStatus {
  if (scans.length > 0 && scans.every(({ keys }) => keys.length === 0)) return 1;
  const doubtful = scans.some(
    ({ keys, failure }) =>
      failure !== undefined || keys.some(({ standing }) => standing === 'differs' || standing === 'revoked'),
  );
  return doubtful ? 3 : 0;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw new InvalidArgumentError('Expected a port, a whole number from 1 to 65535.');
}
