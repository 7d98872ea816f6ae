import { type BackoffState, describeBackoff } from './backoff.ts';
import { familyName, keyFamilyOf } from './dual.ts';
import type { CertificateSpec, KeyFamily } from './model.ts';

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
  /** Why it must be replaced at once, such as its revocation. */
  readonly unfit?: string | undefined;
  /** Of its key; undefined where that does not matter. */
  readonly family?: KeyFamily | undefined;
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
  return {
    action: 'wait',
    reason: `${need.reason}; ${describeBackoff(backoff, spec.name)}`,
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
  if (held.unfit !== undefined) return { action: 'issue', reason: held.unfit };
  const family = keyFamilyOf(spec.key);
  // Any key serves a certificate alone; half a dual one with the key of the other half serves nobody.
  if (spec.dualOf !== undefined && held.family !== undefined && held.family !== family) {
    const reason = `holds an ${familyName(held.family)} key as the ${familyName(family)} half of a dual certificate`;
    return { action: 'issue', reason };
  }
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
