import { KacmeError } from '../domain/errors.ts';
import type { Clock } from '../ports/clock.ts';
import { allowManyWaits } from './deadline.ts';
import { AcmeProblemError } from './problem.ts';

/** One look at something that the CA is working on. */
export interface Look<T> {
  /** Undefined while the CA is still at work. */
  readonly settled: T | undefined;
  /** From Retry-After: the CA asks not to be asked before. */
  readonly notBefore: Date | undefined;
}

export interface PollOptions {
  /** What is waited for, for the message, such as `authorization https://ca.example/authz/1`. */
  readonly what: string;
  readonly clock: Clock;
  /** Before the first look. */
  readonly firstMs: number;
  readonly signal: AbortSignal;
}

const SHORTEST_MS = 50;
const LONGEST_MS = 5_000;
const OVERALL_MS = 180_000;

/** Failed looks in a row that are taken for a passing trouble, with pauses that double from a second. */
const TOLERATED_FAILURES = 3;
const FAILURE_PAUSE_MS = 1_000;

/**
 * Looks until it is settled: soon at first, then at intervals that double from 50 ms to 5 s, or when Retry-After
 * says (RFC 8555 sections 7.4 and 7.5.1). Throws `ERR_ACME_TIMEOUT` after 3 minutes, and at once when the CA asks
 * to come back after them.
 */
export async function poll<T>(look: () => Promise<Look<T>>, options: PollOptions): Promise<T> {
  const { what, clock, firstMs, signal } = options;
  allowManyWaits(signal);
  const startedMs = clock.monotonicMs();
  let seen: Attempt<T> | undefined;
  let failures = 0;
  let intervalMs = SHORTEST_MS;
  let waitMs = firstMs;
  for (;;) {
    const spentMs = clock.monotonicMs() - startedMs;
    if (spentMs + waitMs > OVERALL_MS) throw seen?.trouble ?? stillAtWork(what, seen?.notBefore);
    if (waitMs > 0) await clock.sleep(waitMs, { signal });
    seen = await attempt(look);
    if (seen.settled !== undefined) return seen.settled;
    failures = seen.trouble === undefined ? 0 : failures + 1;
    if (seen.trouble !== undefined && failures > TOLERATED_FAILURES) throw seen.trouble;
    const ownMs = failures === 0 ? intervalMs : FAILURE_PAUSE_MS * 2 ** (failures - 1);
    waitMs = untilMs(seen.notBefore, clock) || ownMs;
    intervalMs = Math.min(intervalMs * 2, LONGEST_MS);
  }
}

interface Attempt<T> extends Look<T> {
  readonly trouble?: KacmeError;
}

/** A look, or the trouble in its way if that may pass by itself. */
async function attempt<T>(look: () => Promise<Look<T>>): Promise<Attempt<T>> {
  try {
    return await look();
  } catch (error) {
    if (!(error instanceof KacmeError) || error.retry !== 'later') throw error;
    const notBefore = error instanceof AcmeProblemError ? error.notBefore : undefined;
    return { settled: undefined, notBefore, trouble: error };
  }
}

const untilMs = (moment: Date | undefined, clock: Clock): number =>
  moment === undefined ? 0 : Math.max(0, moment.getTime() - clock.now().getTime());

function stillAtWork(what: string, notBefore: Date | undefined): KacmeError {
  const asked = notBefore === undefined ? '' : `, and asks to come back at ${notBefore.toISOString()}`;
  return new KacmeError(
    'ERR_ACME_TIMEOUT',
    `${what}: the CA has not finished within ${OVERALL_MS / 1_000} s${asked}; kacme looks again later`,
    { retry: 'later', remedy: 'nothing at first; if it stays so, see whether the CA reports an outage' },
  );
}
