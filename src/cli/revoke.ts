import { Command, Option } from 'commander';
import { REVOCATION_REASONS, type RevocationReason } from '../domain/revocation.ts';
import type { CliContext } from './context.ts';
import { askService, type EndWith, helpEnd, reportSummary } from './service-command.ts';

interface RevokeOptions {
  readonly reason: RevocationReason;
  readonly replace?: boolean;
  readonly fingerprint?: string;
  readonly with: 'account' | 'certificate-key';
  readonly json?: boolean;
}

export function revokeCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('revoke')
    .description('Have a certificate revoked by its CA (RFC 8555 section 7.6); it is never installed again')
    .argument('<name>', 'name of the certificate, as configured')
    .addOption(
      new Option('--reason <reason>', 'why, for the CA and for browsers')
        .choices(REVOCATION_REASONS)
        .makeOptionMandatory(),
    )
    .option('--replace', 'issue a successor with a new key and bring it to the hosts first, then revoke')
    .option(
      '--fingerprint <sha256>',
      'which one, by its fingerprint or the beginning of it (default: the active one)',
    )
    .addOption(
      new Option('--with <key>', 'who signs; where the account cannot, the key of the certificate does')
        .choices(['account', 'certificate-key'])
        .default('account'),
    )
    .option('--json', 'print the summary as JSON')
    .addHelpText(
      'after',
      helpEnd(
        [
          'kacme revoke external --reason superseded --replace',
          'kacme revoke external --reason keyCompromise --replace',
          'kacme revoke external --reason cessationOfOperation --fingerprint 3f0f069f145c',
        ],
        [
          '0  revoked; with --replace every host presents its successor',
          '1  failed',
          '2  wrong usage or configuration, or there is nothing to revoke',
          '3  a host could not be reached: with keyCompromise revoked all the same, else when no host presents it',
        ],
      ),
    )
    .action(async (certificate: string, options: RevokeOptions, command: Command) => {
      const { reason, replace = false, fingerprint, with: signedBy, json = false } = options;
      const summary = await askService(context, command, (service, serviceOptions) =>
        service.revoke({ certificate, reason, replace, fingerprint, signedBy }, serviceOptions),
      );
      reportSummary(context, summary, { json }, endWith);
    });
}
