import { createHash } from 'node:crypto';
import { countedUnder, type RegisteredDomain } from './registered-domain.ts';
import type { Capacity } from './token-bucket.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

export const LIMIT_NAMES = [
  'ordersPerAccount',
  'certificatesPerDomain',
  'certificatesPerSet',
  'failedAuthorizations',
  'accountsPerAddress',
] as const;

export type LimitName = (typeof LIMIT_NAMES)[number];

/**
 * `renewal`: for exactly the names of a certificate that this CA issued before. `ari-renewal`: with `replaces`,
 * inside the window that the CA suggested (RFC 9773 section 5).
 */
export type OrderKind = 'new' | 'renewal' | 'ari-renewal';

export interface RateLimit extends Capacity {
  /** Orders that the CA does not hold to this limit. */
  readonly spares: readonly OrderKind[];
}

/** The limits of a CA; what is not named is not limited. */
export type RateLimits = Readonly<Partial<Record<LimitName, RateLimit>>>;

/** "Rate Limits" of Let's Encrypt, with the exemptions of its "ARI Renewals" and "Non-ARI Renewals". */
export const LETS_ENCRYPT_LIMITS = {
  ordersPerAccount: { capacity: 300, refillMs: 36_000, spares: ['renewal', 'ari-renewal'] },
  certificatesPerDomain: { capacity: 50, refillMs: 202 * MINUTE_MS, spares: ['renewal', 'ari-renewal'] },
  certificatesPerSet: { capacity: 5, refillMs: 34 * HOUR_MS, spares: ['ari-renewal'] },
  failedAuthorizations: { capacity: 5, refillMs: 12 * MINUTE_MS, spares: ['ari-renewal'] },
  accountsPerAddress: { capacity: 10, refillMs: 18 * MINUTE_MS, spares: [] },
} as const satisfies RateLimits;

/** "Staging Environment" of Let's Encrypt; its limits on certificates are beyond any use of it. */
export const LETS_ENCRYPT_STAGING_LIMITS = {
  ordersPerAccount: { capacity: 1_500, refillMs: 7_200, spares: ['renewal', 'ari-renewal'] },
  failedAuthorizations: { capacity: 200, refillMs: 18_000, spares: ['ari-renewal'] },
} as const satisfies RateLimits;

/** One bucket that an order is counted in. `key` is `<limit>/<subject>`. */
export interface CountedIn {
  readonly limit: LimitName;
  readonly key: string;
}

/** An order as its CA counts it. */
export interface LimitedOrder {
  readonly kind: OrderKind;
  readonly account: CountedIn;
  readonly domains: readonly CountedIn[];
  readonly exactSet: CountedIn;
  readonly failures: readonly CountedIn[];
}

/** `account` is any name of the account that stays the same, such as its URL. */
export function limitedOrder(
  {
    account,
    identifiers,
    kind,
  }: { readonly account: string; readonly identifiers: readonly string[]; readonly kind: OrderKind },
  registeredDomain: RegisteredDomain,
): LimitedOrder {
  const domains = new Set(identifiers.map((identifier) => countedUnder(identifier, registeredDomain)));
  return {
    kind,
    account: countedIn('ordersPerAccount', account),
    domains: Array.from(domains, (domain) => countedIn('certificatesPerDomain', domain)),
    exactSet: countedIn('certificatesPerSet', nameOfSet(identifiers)),
    failures: identifiers.map((identifier) => failuresOf(account, identifier)),
  };
}

/** The bucket of failed authorizations of an identifier for an account. */
export function failuresOf(account: string, identifier: string): CountedIn {
  return countedIn('failedAuthorizations', `${identifier} for ${account}`);
}

export function countedIn(limit: LimitName, subject: string): CountedIn {
  return { limit, key: `${limit}/${subject}` };
}

/** Short, whatever the number of names, and the same in any order and case. */
function nameOfSet(identifiers: readonly string[]): string {
  const names = [...new Set(identifiers.map((identifier) => identifier.toLowerCase()))].sort();
  const digest = createHash('sha256').update(names.join('\n')).digest('hex').slice(0, 16);
  return `${names[0] ?? ''}${names.length > 1 ? ` and ${names.length - 1} more` : ''} (${digest})`;
}
