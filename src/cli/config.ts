import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { describeConfig, effectiveConfig } from '../config/redact.ts';
import { STARTER_CONFIG } from '../config/starter.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { CliContext } from './context.ts';
import { globalOptions } from './global-options.ts';

type ConfigContext = Pick<CliContext, 'signal' | 'stdout'>;

/** `kacme config`: everything about the configuration that needs no network, no host and no secret. */
export function configCommand(context: ConfigContext): Command {
  return new Command('config')
    .description('Check, show and begin configurations; works offline')
    .addCommand(checkCommand(context))
    .addCommand(showCommand(context))
    .addCommand(schemaCommand(context))
    .addCommand(initCommand(context));
}

function checkCommand({ signal, stdout }: ConfigContext): Command {
  return new Command('check')
    .description('Report every mistake in the configuration, each with file, line and column')
    .addHelpText(
      'after',
      `
Examples:
  kacme config check
  kacme config check --config base.yaml --config site.yaml     site.yaml overlays base.yaml

Exit status: 0 valid, 2 wrong or unreadable`,
    )
    .action(async (_options: unknown, command: Command) => {
      const { configPaths } = globalOptions(command);
      const config = await loadConfig(configPaths, { signal });
      stdout.write(`${configPaths.join(', ')}: valid (${countThings(config)})\n`);
    });
}

function showCommand({ signal, stdout }: ConfigContext): Command {
  return new Command('show')
    .description(
      'Print the configuration in force: overlays applied, defaults filled in, secrets as references',
    )
    .option('--json', 'as JSON instead of YAML', false)
    .addHelpText(
      'after',
      `
Examples:
  kacme config show --config base.yaml --config site.yaml
  kacme config show --json

Exit status: 0 done, 2 the configuration is wrong or unreadable`,
    )
    .action(async ({ json }: { json: boolean }, command: Command) => {
      const config = await loadConfig(globalOptions(command).configPaths, { signal });
      stdout.write(json ? toJson(effectiveConfig(config)) : describeConfig(config));
    });
}

function schemaCommand({ stdout }: ConfigContext): Command {
  return new Command('schema')
    .description('Print the JSON schema of the configuration, for completion in editors')
    .addHelpText(
      'after',
      `
Example:
  kacme config schema > kacme.schema.json
  and as the first line of kacme.yaml:  # yaml-language-server: $schema=kacme.schema.json

Exit status: 0 done`,
    )
    .action(async () => {
      // Only this command needs the generator.
      const { configJsonSchema } = await import('../config/json-schema.ts');
      stdout.write(toJson(configJsonSchema()));
    });
}

function initCommand({ signal, stdout }: ConfigContext): Command {
  return new Command('init')
    .description('Print a commented first configuration, or write it to a file that does not exist yet')
    .argument('[file]', 'where to write it; an existing file is never changed')
    .addHelpText(
      'after',
      `
Examples:
  kacme config init
  kacme config init /etc/kacme/kacme.yaml

Exit status: 0 done, 2 the file exists or cannot be written`,
    )
    .action(async (file: string | undefined, _options: unknown, command: Command) => {
      if (file === undefined) {
        stdout.write(STARTER_CONFIG);
        return;
      }
      try {
        await writeFile(file, STARTER_CONFIG, { flag: 'wx', mode: 0o640, signal });
      } catch (error) {
        signal.throwIfAborted();
        const reason = isExisting(error) ? 'it exists already, and stays as it is' : messageOf(error);
        command
          .showHelpAfterError(false)
          .error(`error: cannot write a first configuration to ${file}: ${reason}`, { exitCode: 2 });
      }
      stdout.write(`${file}: written; adapt it, then run: kacme config check --config ${file}\n`);
    });
}

function countThings({ issuers, certificates, pools, deployments }: KacmeConfig): string {
  const hosts = Object.values(pools).reduce((sum, pool) => sum + pool.hosts.length, 0);
  const discovered = Object.values(pools).filter(({ discovery }) => discovery !== undefined).length;
  return [
    count(Object.keys(issuers).length, 'issuer'),
    count(Object.keys(certificates).length, 'certificate'),
    count(Object.keys(pools).length, 'pool'),
    count(hosts, 'host') + (discovered === 0 ? '' : ` and those of ${count(discovered, 'source')}`),
    count(deployments.length, 'deployment'),
  ].join(', ');
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function isExisting(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EEXIST';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
