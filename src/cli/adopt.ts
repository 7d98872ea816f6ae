import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { AdoptionOrigin } from '../ports/service.ts';
import type { CliContext } from './context.ts';
import { viewOf } from './render/style.ts';
import { renderAdoption } from './render/summary.ts';
import { askService, CHANGE_STATUSES, type EndWith, helpEnd, reportSummary } from './service-command.ts';

interface AdoptOptions {
  readonly from: AdoptionOrigin;
  readonly dryRun?: boolean;
  readonly complete?: boolean;
  readonly json?: boolean;
}

export function adoptCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('adopt')
    .description('Take over valid certificates and accounts that exist already, instead of ordering new ones')
    .argument('[names...]', 'names of certificates, as configured (default: all of them)')
    .addOption(
      new Option(
        '--from <source>',
        "hosts, lego:DIR (lego's --path, or what holds several) or certbot:DIR (/etc/letsencrypt)",
      )
        .argParser(parseOrigin)
        .makeOptionMandatory(),
    )
    .option(
      '--dry-run',
      'print what would be adopted and why, ask the CA for the account, and change nothing',
    )
    .option(
      '--complete',
      'fail unless every certificate is taken over or held, and an account wherever there is one',
    )
    .option('--json', 'print the summary as JSON')
    .addHelpText(
      'after',
      [
        '',
        'Taken over is what a CA issued, is valid now and covers every configured identifier; of several, what lasts longest.',
        'Nothing replaces a certificate of kacme that does all this too, nor an account that it has. The source is only read.',
        'What was taken over is renewed by kacme',
        'when it is due, so stop the other program first: two writers undo each other.',
        helpEnd(
          [
            'kacme adopt --from hosts --dry-run',
            'kacme adopt --from hosts',
            'kacme adopt external --from lego:/etc/letsencrypt/lego/external',
            'kacme adopt --complete --from lego:/etc/letsencrypt/lego',
            'kacme adopt --from certbot:/etc/letsencrypt',
          ],
          CHANGE_STATUSES,
        ),
      ].join('\n'),
    )
    .action(async (names: string[], options: AdoptOptions, command: Command) => {
      const { from: origin, dryRun = false, complete = false, json = false } = options;
      const summary = await askService(context, command, (service, asked) =>
        service.adopt({ origin, names, dryRun, complete }, asked),
      );
      const { stdout, env } = context;
      if (!json) stdout.write(renderAdoption(summary, viewOf(stdout, env)));
      reportSummary(context, summary, { json }, endWith);
    });
}

function parseOrigin(text: string): AdoptionOrigin {
  if (text === 'hosts') return { from: 'hosts' };
  const [, from, directory] = /^(lego|certbot):(.+)$/.exec(text) ?? [];
  if ((from === 'lego' || from === 'certbot') && directory !== undefined)
    return { from, directory: resolve(directory) };
  throw new InvalidArgumentError('Expected hosts, lego:DIR or certbot:DIR.');
}
