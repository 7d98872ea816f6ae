import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import { type ErrorReport, reportError } from '../domain/errors.ts';
import type { Environment, LogLevel, Output } from './context.ts';
import { humanLog } from './human-log.ts';
import { viewOf } from './render/style.ts';

export interface LoggerOptions {
  readonly level: LogLevel | 'silent';
  readonly destination: Output;
  /** NO_COLOR is looked up here. */
  readonly env: Environment;
}

/**
 * JSON lines with `time` (ISO 8601, UTC), `level`, `msg` and the fields of the event; on a terminal one readable line
 * each instead. Errors go under `err`.
 */
export function createLogger({ level, destination, env }: LoggerOptions): Logger {
  const stream: DestinationStream =
    destination.isTTY === true
      ? humanLog(destination, viewOf(destination, env))
      : { write: (line) => void destination.write(line) };
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
      redact: { paths: SECRET_PATHS, censor: '[redacted]' },
      hooks: { streamWrite: withoutPrivateKeys },
    },
    stream,
  );
}

/** No caller logs these: a second net, for the day one does. */
const SECRET_FIELDS = [
  'hmacKey',
  'keyAuthorization',
  'keyPem',
  'passphrase',
  'password',
  'pem',
  'privateKey',
  'token',
];
const SECRET_PATHS = SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);

const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?="))/gs;

/** The last net: whatever field a private key got into, it does not leave. */
function withoutPrivateKeys(line: string): string {
  return line.includes('PRIVATE KEY-----') ? line.replaceAll(PRIVATE_KEY, '[redacted]') : line;
}

interface LoggedError extends ErrorReport {
  /** What led to it, outermost first. */
  readonly causes?: readonly Cause[];
  /** For defects only: an expected failure is explained by its message. */
  readonly stack?: string;
}

interface Cause {
  readonly code?: string;
  readonly message: string;
}

/** Exported for its test. */
export function serializeError(error: unknown): LoggedError {
  if (isReport(error)) return error;
  const report = reportError(error);
  if (!(error instanceof Error)) return report;
  const causes = causesOf(error);
  return {
    ...report,
    ...(causes.length === 0 ? {} : { causes }),
    ...(report.code === 'ERR_INTERNAL' && error.stack !== undefined ? { stack: error.stack } : {}),
  };
}

/** An error that was stored, or came from another process. */
function isReport(error: unknown): error is ErrorReport {
  return (
    typeof error === 'object' &&
    !(error instanceof Error) &&
    error !== null &&
    'code' in error &&
    'retry' in error
  );
}

const MAX_CAUSES = 10;

function causesOf(error: Error): readonly Cause[] {
  const causes: Cause[] = [];
  let next = causeOf(error);
  while (next !== undefined && causes.length < MAX_CAUSES) {
    if (!(next instanceof Error)) {
      causes.push({ message: String(next) });
      break;
    }
    const code = codeOf(next);
    causes.push({ ...(code === undefined ? {} : { code }), message: next.message });
    next = causeOf(next);
  }
  return causes;
}

/** Of several attempts side by side (as in connecting to a name with many addresses) the first tells enough. */
function causeOf(error: Error): unknown {
  return error.cause ?? (error instanceof AggregateError ? error.errors[0] : undefined);
}

function codeOf(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
