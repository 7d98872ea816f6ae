/**
 * Token buckets as Let's Encrypt counts with them ("Rate Limits", "How Our Rate Limits Work"): a full one may be
 * spent at once and refills one by one. A bucket is kept as the one moment when it will be full again (as in the
 * generic cell rate algorithm, ITU-T I.371), so one that is full need not be kept at all.
 */
export interface Capacity {
  /** How many at once, from a full bucket. */
  readonly capacity: number;
  /** Time in which one comes back. */
  readonly refillMs: number;
}

export interface Bucket {
  /** When everything that was spent has come back. */
  readonly fullAt: Date;
  /** Set aside for orders in flight: the CA counts at issuance, and refills from then on. */
  readonly reserved: Reservation | undefined;
  /** The CA's own word (Retry-After): nothing before this, whatever we counted. */
  readonly notBefore: Date | undefined;
}

export interface Reservation {
  readonly count: number;
  /** It lapses then, so that an order that nobody settled does not hold its place for ever. */
  readonly until: Date;
}

/** Longer than any order is waited for. */
const RESERVED_FOR_MS = 86_400_000;

const FULL: Bucket = { fullAt: new Date(0), reserved: undefined, notBefore: undefined };

/** The bucket after one was spent at `now`; an empty one stays empty. */
export function spendOne(bucket: Bucket = FULL, { capacity, refillMs }: Capacity, now: Date): Bucket {
  const fullAtMs = Math.max(bucket.fullAt.getTime(), now.getTime()) + refillMs;
  return { ...bucket, fullAt: new Date(Math.min(fullAtMs, now.getTime() + capacity * refillMs)) };
}

/** The bucket with one more set aside. */
export function reserveOne(bucket: Bucket = FULL, _: Capacity, now: Date): Bucket {
  const until = new Date(now.getTime() + RESERVED_FOR_MS);
  return { ...bucket, reserved: { count: reservedIn(bucket, now) + 1, until } };
}

/** The bucket when one that was set aside is not needed after all. */
export function releaseOne(bucket: Bucket = FULL, _: Capacity, now: Date): Bucket {
  const count = reservedIn(bucket, now) - 1;
  const { reserved } = bucket;
  return { ...bucket, reserved: reserved !== undefined && count > 0 ? { ...reserved, count } : undefined };
}

/** The bucket when one that was set aside is spent. */
export function settleOne(bucket: Bucket | undefined, capacity: Capacity, now: Date): Bucket {
  return spendOne(releaseOne(bucket, capacity, now), capacity, now);
}

/** From when on one can be spent, if what is set aside is spent at `now`; a moment in the past means now. */
export function oneFreeAt(bucket: Bucket, { capacity, refillMs }: Capacity, now: Date): Date {
  const spare = capacity - 1 - reservedIn(bucket, now);
  return new Date(Math.max(bucket.fullAt.getTime(), now.getTime()) - spare * refillMs);
}

/** How many are spent and not back yet, or set aside; a fraction is one on its way back. */
export function usedOf(bucket: Bucket = FULL, { refillMs }: Capacity, now: Date): number {
  return Math.max(0, (bucket.fullAt.getTime() - now.getTime()) / refillMs) + reservedIn(bucket, now);
}

/** Whether there is nothing left to remember of a bucket. */
export function isForgettable(bucket: Bucket, now: Date): boolean {
  const { fullAt, notBefore = now } = bucket;
  return fullAt <= now && notBefore <= now && reservedIn(bucket, now) === 0;
}

const reservedIn = ({ reserved }: Bucket, now: Date): number =>
  reserved !== undefined && reserved.until > now ? reserved.count : 0;
