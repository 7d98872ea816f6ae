import type { CertificateSpec } from './model.ts';

const DAY_MS = 86_400_000;

/** What a renewal decision needs to know of the bundle that is held. */
export interface HeldBundle {
  readonly identifiers: readonly string[];
  readonly origin: 'acme' | 'self-signed' | 'adopted';
  readonly notAfter: Date;
  /** Drawn once, when the bundle was made or in the CA's window, and stored. */
  readonly renewAt: Date;
  /** Whose word `renewAt` is, for the reason (`describeRenewalTime`). */
  readonly basis?: string | undefined;
  /** An operator went back to it: until then nothing is ordered in its place, whatever is due or under way. */
  readonly heldUntil?: Date | undefined;
}

/** The last failed attempts, as stored; cleared by a success. */
export interface BackoffState {
  readonly failures: number;
  readonly notBefore: Date;
}

export type RenewalDecision =
  | { readonly action: 'issue'; readonly reason: string }
  | { readonly action: 'wait'; readonly reason: string; readonly until: Date };

/**
 * Whether a new bundle is needed now. `backoff` is that of the issuer which would be asked; `orderUnderWay` says
 * that an order there was begun and not finished: whatever it was begun for, it is finished.
 */
export function decideRenewal(
  spec: CertificateSpec,
  held: HeldBundle | undefined,
  backoff: BackoffState | undefined,
  now: Date,
  orderUnderWay = false,
): RenewalDecision {
  const need = renewalNeed(spec, held, now, orderUnderWay);
  if (need.action === 'wait' || backoff === undefined || now >= backoff.notBefore) return need;
  const attempts = backoff.failures === 1 ? 'a failed attempt' : `${backoff.failures} failed attempts`;
  return {
    action: 'wait',
    reason: `${need.reason}; backing off after ${attempts}`,
    until: backoff.notBefore,
  };
}

/** For status, plans and progress. */
export function describeWait(decision: Extract<RenewalDecision, { action: 'wait' }>): string {
  return `waits until ${decision.until.toISOString()}: ${decision.reason}`;
}

function renewalNeed(
  spec: CertificateSpec,
  held: HeldBundle | undefined,
  now: Date,
  orderUnderWay: boolean,
): RenewalDecision {
  if (held === undefined) return { action: 'issue', reason: 'no certificate held' };
  if (held.origin === 'self-signed')
    return { action: 'issue', reason: 'only a self-signed certificate held' };
  const uncovered = spec.identifiers.filter((identifier) => !held.identifiers.includes(identifier));
  if (uncovered.length > 0) return { action: 'issue', reason: `does not cover ${uncovered.join(', ')}` };
  if (now >= held.notAfter) return { action: 'issue', reason: 'expired' };
  if (held.heldUntil !== undefined && now < held.heldUntil)
    return { action: 'wait', reason: 'held after a rollback', until: held.heldUntil };
  if (orderUnderWay) return { action: 'issue', reason: 'an order is under way' };
  const basis = held.basis === undefined ? '' : ` (${held.basis})`;
  if (now < held.renewAt) return { action: 'wait', reason: `not due${basis}`, until: held.renewAt };
  return { action: 'issue', reason: `renewal due${basis}` };
}

/**
 * When to renew, without the CA's advice (RFC 9773): with a third of the lifetime left, half of it when the
 * lifetime is under ten days. Spread over a fiftieth of the lifetime, so that certificates issued together
 * are not renewed together. Draw once and store: a new draw at each pass would move it for ever.
 */
export function drawRenewAt(notBefore: Date, notAfter: Date, now: Date, uniform: number): Date {
  const lifetimeMs = notAfter.getTime() - notBefore.getTime();
  const left = lifetimeMs < 10 * DAY_MS ? 1 / 2 : 1 / 3;
  const drawnMs = notBefore.getTime() + lifetimeMs * (1 - left + uniform / 50);
  // A CA that backdates much, or a clock that is ahead, must not make a new certificate due at once, for ever.
  const soonestMs = now.getTime() + (notAfter.getTime() - now.getTime()) / 10;
  return new Date(Math.round(Math.max(drawnMs, soonestMs)));
}

const BACKOFF_MS = [60_000, 600_000, 6_000_000, DAY_MS] as const;

/** With an eighth of what is left of the certificate in use, some fifty attempts fit before it expires; */
const SHARE_OF_TIME_LEFT = 1 / 8;
/** not closer together than this, since CAs limit failures by the hour. */
const SHORTEST_CAPPED_MS = 600_000;

/**
 * When to try again after `failures` failed attempts in a row (at least 1): 1 min, 10 min, 100 min, then daily, but
 * within an eighth of the time left until `heldUntil`, when the certificate in use expires; up to a tenth later so
 * that a fleet does not return in step; never before `notBefore`, the CA's own word.
 */
export function backoffUntil(
  failures: number,
  now: Date,
  uniform: number,
  notBefore?: Date,
  heldUntil?: Date,
): Date {
  const baseMs = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length) - 1] ?? DAY_MS;
  const ours =
    now.getTime() + Math.round(Math.min(baseMs, longestWaitMs(now, heldUntil)) * (1 + uniform / 10));
  return new Date(Math.max(ours, notBefore?.getTime() ?? 0));
}

/** What has expired is no reason to hurry: it was the reason to hurry before. */
function longestWaitMs(now: Date, heldUntil: Date | undefined): number {
  const leftMs = heldUntil === undefined ? 0 : heldUntil.getTime() - now.getTime();
  return leftMs > 0 ? Math.max(leftMs * SHARE_OF_TIME_LEFT, SHORTEST_CAPPED_MS) : Number.POSITIVE_INFINITY;
}

/** An issuer that failed this often in a row is passed over while it backs off, */
const PATIENCE = 3;
/** and so is one that asks to be left alone for longer than this, as a rate limit may. */
const LONGEST_WAIT_MS = 2 * 3_600_000;

/**
 * Which issuer to ask: the first in order of preference that is not backing off after failing again and again, or
 * for long.
 * A first or second failure is waited out instead, so that one hiccup does not change the CA.
 */
export function chooseIssuer(
  issuers: readonly string[],
  backoffs: ReadonlyMap<string, BackoffState>,
  now: Date,
): { readonly issuer: string; readonly backoff: BackoffState | undefined } {
  const givenUp = (issuer: string) => {
    const { failures, notBefore } = backoffs.get(issuer) ?? { failures: 0, notBefore: now };
    const waitMs = notBefore.getTime() - now.getTime();
    return waitMs > LONGEST_WAIT_MS || (waitMs > 0 && failures >= PATIENCE);
  };
  const soonest = [...issuers].sort(
    (a, b) => (backoffs.get(a)?.notBefore.getTime() ?? 0) - (backoffs.get(b)?.notBefore.getTime() ?? 0),
  )[0];
  const issuer = issuers.find((name) => !givenUp(name)) ?? soonest;
  if (issuer === undefined) throw new RangeError('a certificate has at least one issuer');
  return { issuer, backoff: backoffs.get(issuer) };
}
