import type { BackoffState } from './backoff.ts';
import type { LifetimeRule } from './lifetimes.ts';
import type { CertificateSpec } from './model.ts';
import type { Ledger } from './rate-ledger.ts';
import type { LimitName, OrderKind, RateLimits } from './rate-limits.ts';
import type { RegisteredDomain } from './registered-domain.ts';
import type { HeldBundle } from './renewal.ts';
import type { RenewalInfoState, SuggestedWindow } from './renewal-info.ts';

export interface PlannedBundle extends HeldBundle {
  readonly notBefore: Date;
}

/** A certificate as it is when the plan begins. */
export interface PlannedCertificate {
  readonly spec: CertificateSpec;
  readonly held: PlannedBundle | undefined;
  readonly renewalInfo: RenewalInfoState | undefined;
  readonly backoff: BackoffState | undefined;
  /** Where they differ from those of the request, as with a profile of its own. */
  readonly lifetimes?: readonly LifetimeRule[];
}

export interface Outage {
  readonly start: Date;
  readonly end: Date;
}

/** How the CA answers about renewal (ARI). */
export interface WindowModel {
  suggest(certificate: string, bundle: PlannedBundle, now: Date): SuggestedWindow;
  /** When answers change that were given before, as in a mass revocation. */
  readonly changesAt: readonly Date[];
}

/** What the plan assumes; all of it about one CA. */
export interface CalendarRequest {
  readonly certificates: readonly PlannedCertificate[];
  readonly from: Date;
  readonly days: number;
  readonly account: string;
  readonly limits: RateLimits;
  readonly ledger: Ledger;
  readonly registeredDomain: RegisteredDomain;
  readonly lifetimes: readonly LifetimeRule[];
  /** Undefined: a CA without ARI. */
  readonly windows: WindowModel | undefined;
  readonly outages: readonly Outage[];
  readonly ordersInFlight: number;
  /** From newOrder to the certificate. */
  readonly orderMs: number;
  /** Uniform in [0, 1); the plan is the same whenever its answers are. */
  readonly uniform: () => number;
}

/** One order that reached the CA. */
export interface PlannedOrder {
  readonly certificate: string;
  readonly kind: OrderKind;
  readonly reason: string;
  readonly orderedAt: Date;
  /** Undefined when the CA went down under way. */
  readonly issuedAt: Date | undefined;
  /** Expiry of what was held until then. */
  readonly previousNotAfter: Date | undefined;
}

export interface CalendarDay {
  readonly start: Date;
  readonly ordered: number;
  readonly issued: number;
  /** Attempts and orders that met an outage. */
  readonly failed: number;
  /** Orders that were put off for a limit, once for each time. */
  readonly deferred: number;
}

export interface PeakUse {
  readonly limit: LimitName;
  readonly key: string;
  readonly at: Date;
  readonly used: number;
  readonly capacity: number;
}

export interface Margin {
  readonly certificate: string;
  readonly at: Date;
  /** What was left of the old certificate when the new one came. */
  readonly leftMs: number;
}

export interface Violation {
  readonly kind: 'expired' | LimitName;
  /** A certificate, or the key of a bucket. */
  readonly subject: string;
  readonly at: Date;
}

export interface Calendar {
  readonly days: readonly CalendarDay[];
  readonly orders: readonly PlannedOrder[];
  /** The highest use of each limit that was used at all, as the CA counts it. */
  readonly peaks: readonly PeakUse[];
  readonly peakInFlight: number;
  readonly tightest: Margin | undefined;
  /** Certificates that have nothing issued at the end. */
  readonly unissued: readonly string[];
  readonly violations: readonly Violation[];
}
