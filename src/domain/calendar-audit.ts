import type { CalendarRequest, Margin, PeakUse, PlannedOrder, Violation } from './calendar-model.ts';
import type { Ledger } from './rate-ledger.ts';
import {
  type CountedIn,
  type LimitedOrder,
  type LimitName,
  limitedOrder,
  type RateLimit,
  type RateLimits,
} from './rate-limits.ts';

/** What the CA would have counted. */
export interface LimitAudit {
  readonly peaks: readonly PeakUse[];
  readonly violations: readonly Violation[];
}

/**
 * Replays a plan as the CA sees it: orders are counted and checked when they arrive, certificates when they are issued.
 * Counts credits on its own, so that a mistake of the ledger the plan was made with shows here.
 */
export function auditLimits(
  orders: readonly PlannedOrder[],
  request: Pick<
    CalendarRequest,
    'certificates' | 'account' | 'limits' | 'registeredDomain' | 'ledger' | 'from'
  >,
): LimitAudit {
  const { account, limits, registeredDomain } = request;
  const asNew = new Map(
    request.certificates.map(({ spec: { name, identifiers } }) => [
      name,
      limitedOrder({ account, identifiers, kind: 'new' }, registeredDomain),
    ]),
  );
  const desk = new CountingDesk(limits, request);
  for (const { at, order, phase } of inTime(orders)) {
    const counted = asNew.get(order.certificate);
    if (counted !== undefined) desk[phase]({ ...counted, kind: order.kind }, at);
  }
  return { peaks: [...desk.peaks.values()], violations: desk.violations };
}

function inTime(
  orders: readonly PlannedOrder[],
): readonly { readonly at: Date; readonly order: PlannedOrder; readonly phase: 'ordered' | 'issued' }[] {
  return orders
    .flatMap((order) => [
      { at: order.orderedAt, order, phase: 'ordered' as const },
      ...(order.issuedAt === undefined ? [] : [{ at: order.issuedAt, order, phase: 'issued' as const }]),
    ])
    .sort((a, b) => a.at.getTime() - b.at.getTime());
}

interface Credit {
  /** In milliseconds of refilling, so that it stays a whole number. */
  creditMs: number;
  atMs: number;
}

class CountingDesk {
  readonly peaks = new Map<LimitName, PeakUse>();
  readonly violations: Violation[] = [];
  readonly #limits: RateLimits;
  /** What was counted before the plan began. */
  readonly #ledger: Ledger;
  readonly #from: Date;
  readonly #credits = new Map<string, Credit>();

  constructor(limits: RateLimits, { ledger, from }: Pick<CalendarRequest, 'ledger' | 'from'>) {
    this.#limits = limits;
    this.#ledger = ledger;
    this.#from = from;
  }

  ordered(order: LimitedOrder, at: Date): void {
    this.#check(order.account, order, at);
    this.#spend(order.account, order, at);
    for (const bucket of [...order.domains, order.exactSet]) this.#check(bucket, order, at);
  }

  issued(order: LimitedOrder, at: Date): void {
    for (const bucket of order.domains) this.#spend(bucket, order, at);
    // Every certificate counts for its set, but only what is held to the limit can exceed it.
    this.#spend(order.exactSet, { ...order, kind: 'new' }, at);
  }

  #check({ limit: name, key }: CountedIn, { kind }: LimitedOrder, at: Date): void {
    const limit = this.#limits[name];
    if (limit === undefined || limit.spares.includes(kind)) return;
    if (this.#creditOf(key, limit, at).creditMs < limit.refillMs)
      this.violations.push({ kind: name, subject: key, at });
  }

  #spend({ limit: name, key }: CountedIn, { kind }: LimitedOrder, at: Date): void {
    const limit = this.#limits[name];
    if (limit === undefined || limit.spares.includes(kind)) return;
    const credit = this.#creditOf(key, limit, at);
    credit.creditMs = Math.max(0, credit.creditMs - limit.refillMs);
    const used = limit.capacity - credit.creditMs / limit.refillMs;
    if (used > (this.peaks.get(name)?.used ?? 0))
      this.peaks.set(name, { limit: name, key, at, used, capacity: limit.capacity });
  }

  #creditOf(key: string, { capacity, refillMs }: RateLimit, at: Date): Credit {
    const atMs = at.getTime();
    const fullMs = capacity * refillMs;
    const known = this.#credits.get(key) ?? this.#creditBefore(key, fullMs);
    const creditMs = Math.min(fullMs, known.creditMs + atMs - known.atMs);
    const credit = { creditMs, atMs };
    this.#credits.set(key, credit);
    return credit;
  }

  #creditBefore(key: string, fullMs: number): Credit {
    const atMs = this.#from.getTime();
    const owedMs = Math.max(0, (this.#ledger[key]?.fullAt.getTime() ?? 0) - atMs);
    return { creditMs: Math.max(0, fullMs - owedMs), atMs };
  }
}

/** What the plan says of expiry. */
export interface ExpiryAudit {
  readonly tightest: Margin | undefined;
  readonly violations: readonly Violation[];
}

/** Finds the renewal that came closest to the expiry of what it renewed, and every certificate that was let expire. */
export function auditExpiry(
  orders: readonly PlannedOrder[],
  lastHeld: ReadonlyMap<string, Date>,
  end: Date,
): ExpiryAudit {
  const violations: Violation[] = [];
  let tightest: Margin | undefined;
  for (const { certificate, issuedAt, previousNotAfter } of orders) {
    if (issuedAt === undefined || previousNotAfter === undefined) continue;
    const leftMs = previousNotAfter.getTime() - issuedAt.getTime();
    if (leftMs <= 0) violations.push({ kind: 'expired', subject: certificate, at: previousNotAfter });
    if (tightest === undefined || leftMs < tightest.leftMs) tightest = { certificate, at: issuedAt, leftMs };
  }
  for (const [certificate, notAfter] of lastHeld) {
    if (notAfter <= end) violations.push({ kind: 'expired', subject: certificate, at: notAfter });
  }
  return { tightest, violations };
}
