import { KacmeError } from '../domain/errors.ts';

/** The moment before which whoever failed asks not to be asked again (RFC 8555 section 6.6), if the error has one. */
export function notBeforeOf(error: unknown): Date | undefined {
  if (error instanceof KacmeError && 'notBefore' in error && error.notBefore instanceof Date)
    return error.notBefore;
  return undefined;
}

/** The same, only where the CA refused for its rate limits. */
export function rateLimitedUntil(error: unknown): Date | undefined {
  return error instanceof KacmeError && error.code === 'ERR_ACME_RATE_LIMITED'
    ? notBeforeOf(error)
    : undefined;
}
