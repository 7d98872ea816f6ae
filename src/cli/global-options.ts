import { type Command, Option } from 'commander';
import type { GlobalOptions, LogLevel } from './context.ts';

const DEFAULT_CONFIG_PATH = '/etc/kacme/kacme.yaml';
const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error'];

/** Declares the options that are understood before and after the name of a command. */
export function addGlobalOptions(program: Command): Command {
  return program
    .addOption(
      new Option(
        '--config <file>',
        `configuration file; repeat it to overlay more files (default: ${DEFAULT_CONFIG_PATH})`,
      ).argParser((path: string, earlier: readonly string[] | undefined) => [...(earlier ?? []), path]),
    )
    .addOption(
      new Option('--log-level <level>', 'overrides log.level of the configuration').choices(LOG_LEVELS),
    );
}

/** Reads them inside the action of any command. */
export function globalOptions(command: Command): GlobalOptions {
  const { config, logLevel } = command.optsWithGlobals<{
    config?: readonly string[];
    logLevel?: LogLevel;
  }>();
  return { configPaths: config ?? [DEFAULT_CONFIG_PATH], logLevel };
}
