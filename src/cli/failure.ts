import { type ErrorCode, KacmeError, reportError } from '../domain/errors.ts';
import type { ExitStatus } from './context.ts';

/** Codes that mean that the operator asked for something kacme cannot understand: exit status 2. */
const USAGE_CODES: ReadonlySet<ErrorCode> = new Set([
  'ERR_CONFIG_INVALID',
  'ERR_CONFIG_UNREADABLE',
  'ERR_SECRET_UNREADABLE',
  'ERR_UNKNOWN_NAME',
  'ERR_ACCOUNT_KEY',
  'ERR_NOTHING_TO_REVOKE',
  'ERR_CONTROL_REQUEST',
]);

export function exitStatusOf(error: unknown): ExitStatus {
  return USAGE_CODES.has(reportError(error).code) ? 2 : 1;
}

/** `file:line:column: `, as each line of a configuration error begins. */
const MISTAKE = /^.+:\d+:\d+: /;

/**
 * What is printed about an error that ends a command. The lines of a configuration error stand alone, since editors
 * and people look for `file:line:column`. A stack is printed with `debug` only, and only for a defect of kacme.
 */
export function describeError(error: unknown, { debug }: { debug: boolean }): string {
  const { code, message, remedy } = reportError(error);
  if (code === 'ERR_CONFIG_INVALID' && MISTAKE.test(message)) return `${message}\n`;
  const lines = [`kacme: ${message}`];
  if (remedy !== undefined) lines.push(`  what to do: ${remedy}`);
  if (code === 'ERR_INTERNAL') lines.push(...describeDefect(error, debug));
  return `${lines.join('\n')}\n`;
}

function describeDefect(error: unknown, debug: boolean): readonly string[] {
  if (!debug) return ['  this is a defect of kacme: run it with --log-level debug and report what it prints'];
  if (error instanceof Error && !(error instanceof KacmeError)) return [error.stack ?? ''];
  // It came from the service over the control socket: its stack is in the log there.
  return ['  the log of the running service has the stack'];
}
