import { Command, CommanderError } from 'commander';
import { accountCommand } from './account.ts';
import { adoptCommand } from './adopt.ts';
import { bootstrapCommand } from './bootstrap.ts';
import { checkCommand } from './check.ts';
import { configCommand } from './config.ts';
import type { CliContext, ExitStatus, Output } from './context.ts';
import { distributeCommand } from './distribute.ts';
import { describeError, exitStatusOf } from './failure.ts';
import { addGlobalOptions, globalOptions } from './global-options.ts';
import { haproxyCommand } from './haproxy.ts';
import { hostsCommand } from './hosts.ts';
import { flushed, tolerateClosedReader } from './output.ts';
import { planCommand } from './plan.ts';
import { reloadCommand } from './reload.ts';
import { reloadConfigCommand } from './reload-config.ts';
import { viewOf } from './render/style.ts';
import { renewCommand } from './renew.ts';
import { revokeCommand } from './revoke.ts';
import { rollbackCommand } from './rollback.ts';
import { serveCommand } from './serve.ts';
import type { EndWith } from './service-command.ts';
import { statusCommand } from './status.ts';

/**
 * Runs one command line (without the names of interpreter and script) and resolves to its exit status. It never
 * rejects, never ends the process, and has written everything by then.
 */
export async function runCli(argv: readonly string[], context: CliContext): Promise<ExitStatus> {
  let status: ExitStatus = 0;
  const endWith: EndWith = (ending) => {
    status = ending;
  };
  const fail = (error: unknown, debug: boolean): void => {
    context.stderr.write(describeError(error, { debug }));
    status = exitStatusOf(error);
  };
  let outputLost = false;
  tolerateClosedReader(context.stdout, ({ message }) => {
    outputLost = true;
    context.stderr.write(`kacme: write the output: ${message}\n`);
  });
  tolerateClosedReader(context.stderr, () => {
    outputLost = true;
  });

  const program = buildProgram(context, endWith);
  try {
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    // commander has printed its own message already, or the help or version that was asked for.
    if (error instanceof CommanderError) endWith(error.exitCode === 0 ? 0 : 2);
    else fail(error, isDebugging(program));
  }
  // A full disk behind a redirected stdout is known only when the text has left.
  await Promise.all([flushed(context.stdout), flushed(context.stderr)]);
  return outputLost ? 1 : status;
}

function isDebugging(program: Command): boolean {
  const { logLevel } = globalOptions(program);
  return logLevel === 'debug' || logLevel === 'trace';
}

function buildProgram(context: CliContext, endWith: EndWith): Command {
  const { stdout, stderr, env } = context;
  const width = (output: Output): number => output.columns ?? 100;
  const program = new Command('kacme')
    .description('ACME certificates for fleets of HAProxy hosts: issued, distributed, kept in sync.')
    .version(context.version, '--version', 'print the version')
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      getOutHelpWidth: () => width(stdout),
      getErrHelpWidth: () => width(stderr),
      getOutHasColors: () => viewOf(stdout, env).colour,
      getErrHasColors: () => viewOf(stderr, env).colour,
      outputError: (text, write) => write(`kacme: ${text.replace(/^error: /, '')}`),
    })
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .addHelpText(
      'after',
      '\nExit status: 0 done or nothing to do, 1 failed, 2 wrong usage or configuration, 3 partly done',
    );
  pointToHelp(program);
  addGlobalOptions(program);
  const commands = [
    bootstrapCommand(context, endWith),
    serveCommand(context),
    statusCommand(context, endWith),
    renewCommand(context, endWith),
    checkCommand(context, endWith),
    planCommand(context, endWith),
    revokeCommand(context, endWith),
    distributeCommand(context, endWith),
    adoptCommand(context, endWith),
    accountCommand(context, endWith),
    rollbackCommand(context, endWith),
    reloadCommand(context, endWith),
    hostsCommand(context, endWith),
    reloadConfigCommand(context),
    configCommand(context),
    haproxyCommand(context),
  ];
  for (const command of commands) {
    program.addCommand(command);
    inheritSettings(command, program);
  }
  return program;
}

/** Output, exit and suggestions are set on the program alone; commander passes them on only to what it makes itself. */
function inheritSettings(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  pointToHelp(command);
  for (const child of command.commands) inheritSettings(child, command);
}

/** A mistake is answered with the help that is about it. */
function pointToHelp(command: Command): void {
  const names: string[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) names.unshift(at.name());
  command.showHelpAfterError(`run \`${names.join(' ')} --help\` for what there is`);
}
