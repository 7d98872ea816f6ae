import { KacmeError } from '../domain/errors.ts';

/**
 * The error if it belongs to one certificate or one host, so that the others go on. Throws what ends the whole
 * command instead: a cancellation, a lost mandate, a defect.
 */
export function expectedFailure(error: unknown, { signal }: { signal: AbortSignal }): KacmeError {
  signal.throwIfAborted();
  if (error instanceof KacmeError && error.code !== 'ERR_MANDATE_LOST') return error;
  throw error;
}
