import { KacmeError } from '../domain/errors.ts';

/** Keys and indexes from the top of the configuration down to one value. */
export type ConfigPath = readonly (string | number)[];

/** One mistake, at the place in a file where it can be corrected. */
export interface ConfigIssue {
  /** As the operator named it. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
  /** Such as `pools.loadbalancers.hosts[1]`; empty for a syntax error. */
  readonly path: string;
  readonly message: string;
}

/** The configuration is wrong; the message has one line for each mistake, in the order of the files. */
export class ConfigError extends KacmeError {
  override readonly name = 'ConfigError';
  readonly issues: readonly ConfigIssue[];

  constructor(issues: readonly ConfigIssue[]) {
    super('ERR_CONFIG_INVALID', issues.map(formatIssue).join('\n'), {
      retry: 'never',
      remedy: 'correct each of these lines; `kacme config check` tests the result without starting anything',
    });
    this.issues = issues;
  }
}

/** `FILE:LINE:COLUMN: path: message`, the form that editors and terminals turn into a link. */
export function formatIssue({ file, line, column, path, message }: ConfigIssue): string {
  return `${file}:${line}:${column}: ${path === '' ? '' : `${path}: `}${message}`;
}

export function formatPath(path: ConfigPath): string {
  return path
    .map((step) => {
      if (typeof step === 'number') return `[${step}]`;
      return /^[\w-]+$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
    })
    .join('')
    .replace(/^\./, '');
}
