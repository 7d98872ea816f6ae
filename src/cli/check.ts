import { Command } from 'commander';
import type { CheckReport } from '../domain/finding.ts';
import type { CliContext, ExitStatus } from './context.ts';
import { writeJson } from './output.ts';
import { renderCheck } from './render/check.ts';
import { viewOf } from './render/style.ts';
import { askService, type EndWith, helpEnd } from './service-command.ts';

const STATUSES: Readonly<Record<CheckReport['outcome'], ExitStatus>> = { done: 0, failed: 1, partly: 3 };

export function checkCommand(context: CliContext, endWith: EndWith): Command {
  const { stdout, env } = context;
  return new Command('check')
    .description('Find out what would go wrong before it does: names, CAs, hosts, this machine')
    .option('--json', 'print the findings as JSON')
    .addHelpText(
      'after',
      `
Looks at DNS and CAA records, fetches a challenge of its own from every address of
every name, reads the directory of each CA and asks it for the account, logs in
to every host, and tries there what a change needs: makes an empty file beside
each bundle and removes it. It registers, orders and installs nothing. With a
service running, the service checks; else this process does.
${helpEnd(
  ['kacme check', 'kacme check --json | jq \'.findings[] | select(.state != "ok")\''],
  [
    '0  nothing failed; there may be warnings',
    '1  something failed that concerns everything',
    '2  wrong usage or configuration',
    '3  only some of the hosts failed',
  ],
)}`,
    )
    .action(async ({ json = false }: { json?: boolean }, command: Command) => {
      const report = await askService(context, command, (service, options) => service.check(options));
      if (json) writeJson(stdout, report);
      else stdout.write(renderCheck(report, viewOf(stdout, env)));
      endWith(STATUSES[report.outcome]);
    });
}
