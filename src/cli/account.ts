import { Command } from 'commander';
import { readSecret } from '../config/secret.ts';
import type { AccountRequest } from '../domain/account.ts';
import type { CliContext } from './context.ts';
import { writeJson } from './output.ts';
import { areUsable, renderAccountChange, renderAccounts } from './render/account.ts';
import { viewOf } from './render/style.ts';
import { askService, type EndWith, helpEnd } from './service-command.ts';

const STATUSES: readonly string[] = [
  '0  done, or nothing to do',
  '1  failed',
  '2  wrong usage, configuration or key file',
];

const ISSUER = 'name of the issuer, as configured';

export function accountCommand(context: CliContext, endWith: EndWith): Command {
  return new Command('account')
    .description("kacme's accounts at the CAs: show, register, change the key, recover, end")
    .addCommand(showCommand(context, endWith))
    .addCommand(
      changeCommand(context, 'register', {
        description: 'Register an account now; also after the former one was deactivated, with a new key',
        examples: ['kacme account register letsencrypt'],
      }),
    )
    .addCommand(
      changeCommand(context, 'update', {
        description: 'Give the account the contacts of the configuration',
        examples: ['kacme account update letsencrypt'],
      }),
    )
    .addCommand(
      changeCommand(context, 'rollover', {
        description: "Change the account's key (RFC 8555 section 7.3.5); orders under way end first",
        examples: ['kacme account rollover letsencrypt'],
      }),
    )
    .addCommand(deactivateCommand(context))
    .addCommand(recoverCommand(context));
}

function showCommand(context: CliContext, endWith: EndWith): Command {
  const { stdout, env } = context;
  return new Command('show')
    .description('Show accounts as their CAs know them; changes nothing')
    .argument('[issuers...]', 'names of issuers, as configured (default: all of them)')
    .option('--json', 'print them as JSON')
    .addHelpText(
      'after',
      helpEnd(
        ['kacme account show', 'kacme account show letsencrypt --json | jq ".[0].key.thumbprint"'],
        [
          '0  every account is valid, or will be made when it is needed',
          '1  an account is closed, or its CA could not be asked',
          '2  wrong usage or configuration',
        ],
      ),
    )
    .action(async (issuers: string[], { json = false }: { json?: boolean }, command: Command) => {
      const accounts = await askService(context, command, (service, { signal }) =>
        service.accounts({ issuers }, { signal }),
      );
      if (json) writeJson(stdout, accounts);
      else stdout.write(renderAccounts(accounts, viewOf(stdout, env)));
      endWith(areUsable(accounts) ? 0 : 1);
    });
}

function changeCommand(
  context: CliContext,
  action: 'register' | 'update' | 'rollover',
  { description, examples }: { readonly description: string; readonly examples: readonly string[] },
): Command {
  return new Command(action)
    .description(description)
    .argument('<issuer>', ISSUER)
    .option('--json', 'print what was done and the account as JSON')
    .addHelpText('after', helpEnd(examples, STATUSES))
    .action(async (issuer: string, { json = false }: { json?: boolean }, command: Command) =>
      change(context, command, { action, issuer }, { json }),
    );
}

function deactivateCommand(context: CliContext): Command {
  return new Command('deactivate')
    .description('End the account at the CA for good (RFC 8555 section 7.3.6); certificates stay valid')
    .argument('<issuer>', ISSUER)
    .option('--yes', 'the account cannot be had back: only with this it is done')
    .option('--json', 'print what was done and the account as JSON')
    .addHelpText('after', helpEnd(['kacme account deactivate letsencrypt --yes'], STATUSES))
    .action(
      async (
        issuer: string,
        { yes = false, json = false }: { yes?: boolean; json?: boolean },
        command: Command,
      ) => {
        if (!yes) {
          command.error(
            `error: deactivating the account at ${issuer} cannot be undone, and certificates are not renewed there any more: repeat the command with --yes`,
            { exitCode: 2 },
          );
        }
        await change(context, command, { action: 'deactivate', issuer }, { json });
      },
    );
}

interface RecoverOptions {
  readonly key: string;
  readonly replace?: boolean;
  readonly json?: boolean;
}

function recoverCommand(context: CliContext): Command {
  return new Command('recover')
    .description('Take over an existing account by its key, such as that of lego')
    .argument('<issuer>', ISSUER)
    .requiredOption('--key <file>', 'the private key of the account, PEM, readable by its owner alone')
    .option('--replace', 'forget the account that kacme has there now')
    .option('--json', 'print what was done and the account as JSON')
    .addHelpText(
      'after',
      helpEnd(
        [
          'kacme account recover letsencrypt --key accounts/acme-v02.api.letsencrypt.org/me@example.org/keys/me@example.org.key',
        ],
        STATUSES,
      ),
    )
    .action(
      async (issuer: string, { key, replace = false, json = false }: RecoverOptions, command: Command) => {
        const { signal } = context;
        const keyPem = await readSecret({ file: key }, { signal });
        await change(context, command, { action: 'recover', issuer, keyPem, replace }, { json });
      },
    );
}

async function change(
  context: CliContext,
  command: Command,
  request: AccountRequest,
  { json }: { json: boolean },
): Promise<void> {
  const { stdout, env } = context;
  const changed = await askService(context, command, (service, options) =>
    service.changeAccount(request, options),
  );
  if (json) writeJson(stdout, changed);
  else stdout.write(renderAccountChange(changed, viewOf(stdout, env)));
}
