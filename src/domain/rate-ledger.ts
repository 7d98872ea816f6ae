import {
  type CountedIn,
  countedIn,
  failuresOf,
  type LimitedOrder,
  type LimitName,
  type RateLimits,
} from './rate-limits.ts';
import {
  type Bucket,
  isForgettable,
  oneFreeAt,
  releaseOne,
  reserveOne,
  settleOne,
  spendOne,
  usedOf,
} from './token-bucket.ts';

/**
 * What a CA has counted, by the keys of its buckets: predicted by us, corrected by its own refusals. Buckets that
 * are full again are dropped at each change, so the ledger holds what was used lately and nothing else.
 */
export type Ledger = Readonly<Record<string, Bucket>>;

export type LimitVerdict =
  | { readonly allowed: true }
  | {
      readonly allowed: false;
      readonly until: Date;
      /** `server`: the CA said so itself. */
      readonly limit: LimitName | 'server';
      /** Key of the bucket that decides. */
      readonly bucket: string;
      readonly reason: string;
    };

/** The bucket of a refusal that holds for everything at this CA. */
export const EVERY_REQUEST = 'server/every request';
const ACCOUNTS = countedIn('accountsPerAddress', 'here');
const ALLOWED = { allowed: true } as const;

/** Whether the CA would take this order now, and if not, until when, by the limit that is the last to give way. */
export function judgeOrder(ledger: Ledger, limits: RateLimits, order: LimitedOrder, now: Date): LimitVerdict {
  const buckets = bucketsOf(order).map(({ limit, key }) =>
    judgeBucket(ledger, limits, { key, limit: spares(limits, limit, order) ? undefined : limit }, now),
  );
  return lastToGiveWay([judgeBucket(ledger, limits, { key: EVERY_REQUEST }, now), ...buckets]);
}

/** Whether the CA would let another account be created from this address. */
export function judgeAccount(ledger: Ledger, limits: RateLimits, now: Date): LimitVerdict {
  return lastToGiveWay([
    judgeBucket(ledger, limits, { key: EVERY_REQUEST }, now),
    judgeBucket(ledger, limits, ACCOUNTS, now),
  ]);
}

/** Buckets that an event changes, with what they change to. */
export type LedgerChanges = readonly (readonly [key: string, bucket: Bucket])[];

/**
 * An order that is about to be sent. What the CA counts at issuance (certificates per domain and per set) is reserved
 * already, so that orders in flight cannot exceed a limit together.
 */
export function changesByOrder(
  ledger: Ledger,
  limits: RateLimits,
  order: LimitedOrder,
  now: Date,
): LedgerChanges {
  const atOrder = spares(limits, 'ordersPerAccount', order) ? [] : [order.account];
  return [
    ...changes(ledger, limits, atOrder, now, spendOne),
    ...changes(ledger, limits, countedAtIssuance(limits, order), now, reserveOne),
  ];
}

/** The CA has issued: what was reserved is spent. */
export function changesByIssuance(
  ledger: Ledger,
  limits: RateLimits,
  order: LimitedOrder,
  now: Date,
): LedgerChanges {
  return changes(ledger, limits, countedAtIssuance(limits, order), now, settleOne);
}

/** An order died without a certificate: what was reserved comes back, the order itself does not. */
export function changesByAbandoning(
  ledger: Ledger,
  limits: RateLimits,
  order: LimitedOrder,
  now: Date,
): LedgerChanges {
  return changes(ledger, limits, countedAtIssuance(limits, order), now, releaseOne);
}

/** The ledger after `changesByOrder`: to be stored before the order is sent. */
export function recordOrder(ledger: Ledger, limits: RateLimits, order: LimitedOrder, now: Date): Ledger {
  return changed(ledger, changesByOrder(ledger, limits, order, now), now);
}

/** The ledger after `changesByIssuance`. */
export function recordIssuance(ledger: Ledger, limits: RateLimits, order: LimitedOrder, now: Date): Ledger {
  return changed(ledger, changesByIssuance(ledger, limits, order, now), now);
}

/** The ledger after `changesByAbandoning`. */
export function recordAbandoned(ledger: Ledger, limits: RateLimits, order: LimitedOrder, now: Date): Ledger {
  return changed(ledger, changesByAbandoning(ledger, limits, order, now), now);
}

/** The ledger when the CA could not validate an identifier. */
export function recordFailedAuthorization(
  ledger: Ledger,
  limits: RateLimits,
  { account, identifier }: { readonly account: string; readonly identifier: string },
  now: Date,
): Ledger {
  return changed(ledger, changes(ledger, limits, [failuresOf(account, identifier)], now, spendOne), now);
}

/** The ledger with an account that is about to be created. */
export function recordAccount(ledger: Ledger, limits: RateLimits, now: Date): Ledger {
  return changed(ledger, changes(ledger, limits, [ACCOUNTS], now, spendOne), now);
}

/**
 * The ledger when the CA itself refused (`rateLimited`, RFC 8555 section 6.6): its Retry-After is kept with the bucket
 * it concerns (`scopeOfRefusal`, or `EVERY_REQUEST`), and an earlier word that reaches further is not shortened.
 */
export function recordRateLimited(ledger: Ledger, bucket: string, notBefore: Date, now: Date): Ledger {
  const held = ledger[bucket];
  const furthest = held?.notBefore !== undefined && held.notBefore > notBefore ? held.notBefore : notBefore;
  const told = { fullAt: held?.fullAt ?? now, reserved: held?.reserved, notBefore: furthest };
  return changed(ledger, [[bucket, told]], now);
}

/**
 * The bucket that a refused order most likely ran into, since the CA tells it in prose only: the fullest of those
 * that our own count has half used or more, else the exact set, so that other certificates go on.
 */
export function scopeOfRefusal(ledger: Ledger, limits: RateLimits, order: LimitedOrder, now: Date): string {
  const [fullest] = bucketsOf(order)
    .filter(({ limit }) => !spares(limits, limit, order))
    .map(({ limit, key }) => ({ key, share: shareOf(ledger[key], limits, limit, now) }))
    .sort((a, b) => b.share - a.share);
  return fullest !== undefined && fullest.share >= 1 / 2 ? fullest.key : order.exactSet.key;
}

/** Keys of the buckets that judging and recording an order looks at, `EVERY_REQUEST` aside. */
function bucketsOf({ account, domains, exactSet, failures }: LimitedOrder): readonly CountedIn[] {
  return [account, ...domains, exactSet, ...failures];
}

/** How much of a bucket is used, 0 to 1; 0 where there is no limit. */
export function shareOf(bucket: Bucket | undefined, limits: RateLimits, name: LimitName, now: Date): number {
  const limit = limits[name];
  return limit === undefined ? 0 : usedOf(bucket, limit, now) / limit.capacity;
}

function lastToGiveWay(verdicts: readonly LimitVerdict[]): LimitVerdict {
  return verdicts.reduce<LimitVerdict>((last, next) => {
    if (next.allowed) return last;
    return last.allowed || next.until > last.until ? next : last;
  }, ALLOWED);
}

function judgeBucket(
  ledger: Ledger,
  limits: RateLimits,
  { key, limit: name }: { readonly key: string; readonly limit?: LimitName | undefined },
  now: Date,
): LimitVerdict {
  const bucket = ledger[key];
  if (bucket === undefined) return ALLOWED;
  const limit = name === undefined ? undefined : limits[name];
  const counted = limit === undefined ? now : oneFreeAt(bucket, limit, now);
  const told = bucket.notBefore ?? now;
  const serverDecides = told > counted;
  const until = serverDecides ? told : counted;
  if (until <= now) return ALLOWED;
  const subject = key.slice(key.indexOf('/') + 1);
  if (name === undefined || limit === undefined || serverDecides) {
    const reason = `the CA said to wait until ${until.toISOString()} with ${subject}`;
    return { allowed: false, until, limit: 'server', bucket: key, reason };
  }
  const reason = `${WORDS[name]} ${subject}: the limit of ${limit.capacity} is used up until ${until.toISOString()}`;
  return { allowed: false, until, limit: name, bucket: key, reason };
}

const WORDS: Readonly<Record<LimitName, string>> = {
  ordersPerAccount: 'orders of account',
  certificatesPerDomain: 'certificates for registered domain',
  certificatesPerSet: 'certificates for exactly the names',
  failedAuthorizations: 'failed authorizations of',
  accountsPerAddress: 'new accounts from',
};

const spares = (limits: RateLimits, name: LimitName, { kind }: LimitedOrder): boolean =>
  limits[name]?.spares.includes(kind) ?? true;

/** The CA counts every certificate against its set, even one that it would have issued beyond the limit. */
function countedAtIssuance(limits: RateLimits, order: LimitedOrder): readonly CountedIn[] {
  return spares(limits, 'certificatesPerDomain', order)
    ? [order.exactSet]
    : [...order.domains, order.exactSet];
}

function changes(
  ledger: Ledger,
  limits: RateLimits,
  buckets: readonly CountedIn[],
  now: Date,
  change: typeof spendOne,
): LedgerChanges {
  return buckets.flatMap(({ limit: name, key }) => {
    const limit = limits[name];
    return limit === undefined ? [] : [[key, change(ledger[key], limit, now)] as const];
  });
}

function changed(ledger: Ledger, changes: LedgerChanges, now: Date): Ledger {
  const next: Record<string, Bucket> = {};
  for (const [key, bucket] of [...Object.entries(ledger), ...changes]) next[key] = bucket;
  for (const [key, bucket] of Object.entries(next)) {
    if (isForgettable(bucket, now)) delete next[key];
  }
  return next;
}
