import type { ErrorReport } from './errors.ts';
import type { LimitName, OrderKind } from './rate-limits.ts';

/** What `kacme plan` shows; dates are ISO 8601 in UTC so that it crosses the control socket as JSON. */
export interface RenewalCalendar {
  readonly at: string;
  readonly days: number;
  /** Those that certificates would be ordered from, as things stand. */
  readonly issuers: readonly IssuerCalendar[];
  /** Certificates that are ordered from another issuer first, whose certificate is thrown away. */
  readonly rehearsals: readonly {
    readonly certificate: string;
    readonly issuer: string;
    readonly staging: string;
  }[];
  /** Not planned, since their records in the store are damaged. */
  readonly unreadable: readonly { readonly certificate: string; readonly failure: ErrorReport }[];
}

export interface IssuerCalendar {
  readonly issuer: string;
  readonly directory: string;
  readonly orders: readonly ComingOrder[];
  readonly limits: readonly LimitUse[];
  /** Days on which certificates that are due wait for a limit. */
  readonly waits: readonly { readonly day: string; readonly times: number }[];
  /** Certificates that would expire before they are renewed. */
  readonly expiring: readonly { readonly certificate: string; readonly at: string }[];
  /** Certificates that would still have none of a CA at the end. */
  readonly unissued: readonly string[];
}

export interface ComingOrder {
  readonly certificate: string;
  readonly at: string;
  readonly kind: OrderKind;
  readonly reason: string;
}

/** A limit, with what is used of it where most is used. */
export interface LimitUse {
  readonly limit: LimitName;
  readonly capacity: number;
  readonly now: UsedOf | undefined;
  /** The most in the days ahead. */
  readonly peak: (UsedOf & { readonly at: string }) | undefined;
}

export interface UsedOf {
  /** Such as a registered domain. */
  readonly subject: string;
  /** A fraction is one on its way back. */
  readonly used: number;
}
