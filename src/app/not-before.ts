import { KacmeError } from '../domain/errors.ts';

/** The CA's own Retry-After, where an error carries one (RFC 8555 section 6.6). */
export function notBeforeOf(error: unknown): Date | undefined {
  if (error instanceof KacmeError && 'notBefore' in error && error.notBefore instanceof Date)
    return error.notBefore;
  return undefined;
}
