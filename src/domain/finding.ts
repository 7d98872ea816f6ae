import { type ErrorCode, type ErrorReport, type KacmeError, reportError } from './errors.ts';
import type { Summary } from './status.ts';

/** What `kacme check` found out about one thing, before it hurts. */
export interface Finding {
  readonly area: 'service' | 'issuers' | 'names' | 'hosts';
  /** What was looked at, such as `dns` or `login`. */
  readonly check: string;
  /** On what, such as a name, an issuer, or `pool/host`. */
  readonly subject: string;
  /** `warning`: it works, or cannot be told, and somebody should know. */
  readonly state: 'ok' | 'warning' | 'failed';
  readonly reason: string;
  readonly code: ErrorCode | undefined;
  /** What an operator can do about it, as an instruction. */
  readonly remedy: string | undefined;
}

export interface CheckReport {
  /** ISO 8601, UTC. */
  readonly at: string;
  /** `partly`: only some of the hosts failed. */
  readonly outcome: Summary['outcome'];
  readonly findings: readonly Finding[];
}

/** Findings about one thing. */
export class Findings {
  readonly list: Finding[] = [];
  readonly #of: Pick<Finding, 'area' | 'subject'>;

  constructor(area: Finding['area'], subject: string) {
    this.#of = { area, subject };
  }

  ok(check: string, reason: string): void {
    this.#add(check, 'ok', reason, undefined);
  }

  warning(check: string, reason: string, remedy: string | undefined): void {
    this.#add(check, 'warning', reason, remedy);
  }

  failed(check: string, reason: string, remedy: string | undefined): void {
    this.#add(check, 'failed', reason, remedy);
  }

  error(check: string, error: KacmeError): void {
    this.report(check, reportError(error));
  }

  report(check: string, { code, message: reason, remedy }: ErrorReport): void {
    this.list.push({ ...this.#of, check, state: 'failed', reason, code, remedy });
  }

  #add(check: string, state: Finding['state'], reason: string, remedy: string | undefined): void {
    this.list.push({ ...this.#of, check, state, reason, code: undefined, remedy });
  }
}

/** A host that failed concerns that host: the others are served. All of them failing concerns everybody. */
export function checkOutcome(findings: readonly Finding[]): CheckReport['outcome'] {
  const failed = findings.filter(({ state }) => state === 'failed');
  if (failed.length === 0) return 'done';
  if (failed.some(({ area }) => area !== 'hosts')) return 'failed';
  const failing = new Set(failed.map(({ subject }) => subject));
  return findings.some(({ area, subject }) => area === 'hosts' && !failing.has(subject))
    ? 'partly'
    : 'failed';
}
