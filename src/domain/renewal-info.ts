/** Renewal information of the CA (ARI, RFC 9773): what was answered, when to ask again, when to renew. */

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** Without a Retry-After, and at the longest after errors: four times a day, twice what Let's Encrypt asks for. */
const CHECK_EVERY_MS = 6 * HOUR_MS;

export interface SuggestedWindow {
  readonly start: Date;
  readonly end: Date;
}

/** What the CA answers (RFC 9773 section 4.2). */
export interface RenewalInfo {
  readonly suggestedWindow: SuggestedWindow;
  /** Why the window is where it is, in the CA's own words: for the log and the status. */
  readonly explanationURL: string | undefined;
}

/** What was last heard about one certificate, as stored. */
export interface RenewalInfoState {
  /** Undefined until the CA has answered for the first time. */
  readonly suggestion: Suggestion | undefined;
  readonly nextCheckAt: Date;
  /** Checks in a row that brought no valid answer. */
  readonly failures: number;
}

export interface Suggestion {
  readonly window: SuggestedWindow;
  /** Drawn once within the window; drawn again only when the window has moved. */
  readonly renewAt: Date;
  readonly checkedAt: Date;
  readonly explanationURL: string | undefined;
}

/** A window that ends where it starts, or before, counts as no answer (RFC 9773 section 4.2). */
export function judgeWindow({
  start,
  end,
}: SuggestedWindow): { readonly valid: true } | { readonly valid: false; readonly reason: string } {
  if (Number.isNaN(start.getTime()) || Number.isNaN(end.getTime()))
    return { valid: false, reason: 'a date of the suggested window cannot be read' };
  if (end > start) return { valid: true };
  return {
    valid: false,
    reason: `the suggested window ends at ${end.toISOString()}, not after its start at ${start.toISOString()}`,
  };
}

/** A valid answer of the CA, and its Retry-After as a moment. */
export interface RenewalInfoAnswer {
  readonly info: RenewalInfo;
  readonly retryAfter: Date | undefined;
}

/**
 * The state after a valid answer. The moment to renew is drawn once (RFC 9773 section 4.2: uniformly within the
 * window) and kept while the window still holds it and has not moved earlier; a window that moved earlier never
 * postpones it. `uniform` is in [0, 1). Throws a RangeError for a window that `judgeWindow` refuses.
 */
export function followWindow(
  state: RenewalInfoState | undefined,
  { info, retryAfter }: RenewalInfoAnswer,
  now: Date,
  uniform: number,
): RenewalInfoState {
  const window = info.suggestedWindow;
  const judged = judgeWindow(window);
  if (!judged.valid) throw new RangeError(judged.reason);
  return {
    suggestion: {
      window,
      renewAt: followRenewAt(state?.suggestion, window, uniform),
      checkedAt: now,
      explanationURL: info.explanationURL,
    },
    nextCheckAt: nextCheck(retryAfter, now),
    failures: 0,
  };
}

function followRenewAt(held: Suggestion | undefined, window: SuggestedWindow, uniform: number): Date {
  const lengthMs = window.end.getTime() - window.start.getTime();
  const drawn = new Date(window.start.getTime() + Math.floor(lengthMs * uniform));
  if (held === undefined || held.renewAt < window.start || held.renewAt > window.end) return drawn;
  const movedEarlier = window.start < held.window.start || window.end < held.window.end;
  return movedEarlier && drawn < held.renewAt ? drawn : held.renewAt;
}

/** RFC 9773 section 4.3.1: the CA's Retry-After within bounds of our own, a minute and a day. */
function nextCheck(retryAfter: Date | undefined, now: Date): Date {
  const waitMs = retryAfter === undefined ? CHECK_EVERY_MS : retryAfter.getTime() - now.getTime();
  return new Date(now.getTime() + Math.min(Math.max(waitMs, MINUTE_MS), DAY_MS));
}

/**
 * The state after a check that brought no valid answer: the last one stands, and the CA is asked again after a
 * minute, then four times longer each time up to six hours, a tenth spread by `uniform`; never before its own
 * Retry-After (RFC 9773 section 4.3.2 and 4.3.3).
 */
export function missWindow(
  state: RenewalInfoState | undefined,
  now: Date,
  uniform: number,
  retryAfter?: Date,
): RenewalInfoState {
  const failures = (state?.failures ?? 0) + 1;
  const delayMs = Math.min(MINUTE_MS * 4 ** Math.min(failures - 1, 10), CHECK_EVERY_MS);
  const ours = now.getTime() + Math.round(delayMs * (1 - uniform / 10));
  const theirs = retryAfter === undefined ? ours : nextCheck(retryAfter, now).getTime();
  return {
    suggestion: state?.suggestion,
    nextCheckAt: new Date(Math.max(ours, theirs)),
    failures,
  };
}

/** The state after the CA turned out to offer no renewal information: what it said while it did stands. */
export function lackWindow(state: RenewalInfoState | undefined, now: Date): RenewalInfoState {
  return { suggestion: state?.suggestion, nextCheckAt: new Date(now.getTime() + DAY_MS), failures: 0 };
}

/** How old a bundle must be before the first word about it may call it due. */
const TRUSTED_AFTER_MS = HOUR_MS;

/**
 * Whether the CA calls a bundle due that it has issued just now, and has said nothing else about it before. To
 * follow would be to order again, get the next bundle that is due, and so on: kacme asks again first.
 */
export function isPremature(
  state: RenewalInfoState | undefined,
  { suggestedWindow }: RenewalInfo,
  { issuedAt }: { readonly issuedAt: Date },
  now: Date,
): boolean {
  const isNew = now.getTime() - issuedAt.getTime() < TRUSTED_AFTER_MS;
  return isNew && state?.suggestion === undefined && suggestedWindow.start <= now;
}

export type CheckDecision =
  | { readonly action: 'ask' }
  | { readonly action: 'wait'; readonly until: Date }
  | { readonly action: 'never'; readonly reason: string };

/** Whether to ask the CA about a certificate now; never about an expired one (RFC 9773 section 4.3). */
export function decideCheck(
  state: RenewalInfoState | undefined,
  bundle: { readonly notAfter: Date },
  now: Date,
): CheckDecision {
  if (now >= bundle.notAfter) return { action: 'never', reason: 'expired' };
  if (state === undefined || now >= state.nextCheckAt) return { action: 'ask' };
  return { action: 'wait', until: state.nextCheckAt };
}

/** When to renew a bundle and whose word that is. */
export interface RenewalTime {
  readonly renewAt: Date;
  readonly basis: 'suggested by the CA' | 'emergency floor' | 'share of the lifetime' | 'rollback';
}

/** What is left of the lifetime, at the least, when renewal is due whatever the CA suggests. */
const EMERGENCY_SHARE = 1 / 20;

/**
 * When to renew: at the moment drawn in the CA's window, however old the answer; at the bundle's own `renewAt`
 * (`drawRenewAt`) when there is none; and with a twentieth of the lifetime left in any case, though not before the
 * bundle's own, which alone minds that a new bundle may be old by its dates. A bundle that an operator went back to
 * is held first (`holdUntil`).
 */
export function renewalTime(
  state: RenewalInfoState | undefined,
  bundle: { readonly notBefore: Date; readonly notAfter: Date; readonly renewAt: Date },
  heldUntil?: Date,
): RenewalTime {
  if (heldUntil !== undefined) return { renewAt: heldUntil, basis: 'rollback' };
  const lifetimeMs = bundle.notAfter.getTime() - bundle.notBefore.getTime();
  const lastMs = bundle.notAfter.getTime() - Math.floor(lifetimeMs * EMERGENCY_SHARE);
  const floor = new Date(Math.max(lastMs, bundle.renewAt.getTime()));
  const suggested = state?.suggestion?.renewAt;
  const renewAt = suggested ?? bundle.renewAt;
  if (floor < renewAt) return { renewAt: floor, basis: 'emergency floor' };
  return { renewAt, basis: suggested === undefined ? 'share of the lifetime' : 'suggested by the CA' };
}

/**
 * Whether the CA says enough of a bundle's window to end an operator's hold on its renewal: a window that it explains is
 * about an incident, such as certificates that it is about to revoke. The usual one of a bundle that was gone back to is
 * past, and is what the hold is for.
 */
export const endsHold = (state: RenewalInfoState | undefined): boolean =>
  state?.suggestion?.explanationURL !== undefined;

/** Whose word the moment is, for people; undefined when it is the bundle's own share of its lifetime. */
export function describeRenewalTime(
  { basis }: RenewalTime,
  state: RenewalInfoState | undefined,
): string | undefined {
  if (basis === 'rollback') return 'held after a rollback';
  if (basis === 'emergency floor') return 'a twentieth of the lifetime is left';
  const suggestion = state?.suggestion;
  if (basis === 'share of the lifetime' || suggestion === undefined) return undefined;
  const { window, explanationURL } = suggestion;
  const why = explanationURL === undefined ? '' : `; see ${explanationURL}`;
  return `the CA's window, ${window.start.toISOString()} to ${window.end.toISOString()}${why}`;
}

/** Whether an order with `replaces` is made inside the window now: then Let's Encrypt's limits do not apply to it. */
export function insideWindow(state: RenewalInfoState | undefined, now: Date): boolean {
  const window = state?.suggestion?.window;
  return window !== undefined && window.start <= now && now <= window.end;
}
