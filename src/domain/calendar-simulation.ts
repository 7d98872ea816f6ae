import { type BackoffState, backoffUntil } from './backoff.ts';
import type { CalendarDay, CalendarRequest, PlannedBundle, PlannedOrder } from './calendar-model.ts';
import type { FailureVerdict } from './failure.ts';
import { type LifetimeRule, lifetimeAt } from './lifetimes.ts';
import type { CertificateSpec } from './model.ts';
import { PriorityQueue } from './priority-queue.ts';
import { changesByAbandoning, changesByIssuance, changesByOrder, judgeOrder } from './rate-ledger.ts';
import { type LimitedOrder, limitedOrder, type OrderKind } from './rate-limits.ts';
import { decideRenewal, drawRenewAt } from './renewal.ts';
import {
  followWindow,
  insideWindow,
  missWindow,
  type RenewalInfoState,
  renewalTime,
} from './renewal-info.ts';
import { sameNames } from './same-names.ts';
import { type Bucket, isForgettable } from './token-bucket.ts';
import { VirtualClock } from './virtual-clock.ts';

const DAY_MS = 86_400_000;
/** Some ten milliseconds of work. */
const EVENTS_PER_SLICE = 500;

/** The one failure there is here: the CA is down. */
const OUTAGE: FailureVerdict = { permanent: false, fault: 'issuer' };

/** One certificate on its way through the days. */
interface Track {
  readonly spec: CertificateSpec;
  readonly asNew: LimitedOrder;
  readonly lifetimes: readonly LifetimeRule[];
  held: PlannedBundle | undefined;
  renewalInfo: RenewalInfoState | undefined;
  backoff: BackoffState | undefined;
  state: 'asleep' | 'queued' | 'in flight';
  /** Counts the wake-ups that were set: all but the last are void. */
  wakes: number;
}

interface OrderInFlight {
  readonly track: Track;
  readonly order: LimitedOrder;
  readonly reason: string;
  readonly orderedAt: Date;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A virtual clock with the certificates on it. `run` once, then read. */
export class Simulation {
  readonly orders: PlannedOrder[] = [];
  readonly end: Date;
  peakInFlight = 0;
  readonly #request: CalendarRequest;
  readonly #days: Mutable<CalendarDay>[];
  readonly #tracks: readonly Track[];
  readonly #ledger: Record<string, Bucket>;
  readonly #clock: VirtualClock;
  /** Due, but too many orders are in flight. */
  readonly #ready = new PriorityQueue<Track>(isMoreUrgent);
  /** Due, but a limit is used up: by the key of its bucket. */
  readonly #deferred = new Map<string, PriorityQueue<Track>>();
  /** Buckets with something to spend, whose certificates could not go because too many orders were in flight. */
  readonly #stalled = new Set<string>();
  #inFlight = 0;

  constructor(request: CalendarRequest) {
    const { from, days, certificates, account, registeredDomain } = request;
    const fromMs = from.getTime();
    this.#request = request;
    this.end = new Date(fromMs + days * DAY_MS);
    this.#clock = new VirtualClock(from, this.end);
    this.#ledger = { ...request.ledger };
    this.#days = Array.from({ length: days }, (_, i) => ({
      start: new Date(fromMs + i * DAY_MS),
      ordered: 0,
      issued: 0,
      failed: 0,
      deferred: 0,
    }));
    this.#tracks = certificates.map(
      ({ spec, held, renewalInfo, backoff, lifetimes = request.lifetimes }) => ({
        spec,
        lifetimes,
        asNew: limitedOrder({ account, identifiers: spec.identifiers, kind: 'new' }, registeredDomain),
        held,
        renewalInfo,
        backoff,
        state: 'asleep',
        wakes: 0,
      }),
    );
  }

  get days(): readonly CalendarDay[] {
    return this.#days;
  }

  /** Expiry of what each certificate holds at the end. */
  get lastHeld(): ReadonlyMap<string, Date> {
    return new Map(
      this.#tracks.flatMap(({ spec, held }) =>
        held === undefined ? [] : [[spec.name, held.notAfter] as const],
      ),
    );
  }

  /** Yields now and then, so that whoever runs it can do something else in between. */
  *run(): Generator<undefined, void> {
    for (const track of this.#tracks) {
      if (track.renewalInfo === undefined) this.#ask(track);
      this.#wake(track, this.#now);
    }
    for (const change of this.#request.windows?.changesAt ?? [])
      this.#clock.at(change.getTime(), () => this.#windowsChange());
    while (this.#clock.advance(EVENTS_PER_SLICE)) yield;
  }

  get #now(): Date {
    return this.#clock.now;
  }

  get #nowMs(): number {
    return this.#now.getTime();
  }

  #wake(track: Track, at: Date): void {
    track.state = 'asleep';
    track.wakes += 1;
    const wake = track.wakes;
    this.#clock.at(at.getTime(), () => {
      if (track.wakes === wake && track.state === 'asleep') this.#consider(track);
    });
  }

  #consider(track: Track): void {
    const held = track.held && {
      ...track.held,
      renewAt: renewalTime(track.renewalInfo, track.held).renewAt,
    };
    const decision = decideRenewal(track.spec, held, track.backoff, this.#now);
    if (decision.action === 'wait') this.#wake(track, decision.until);
    else this.#attempt(track, decision.reason);
  }

  #attempt(track: Track, reason: string): void {
    const { limits, orderMs, ordersInFlight } = this.#request;
    if (this.#inFlight >= ordersInFlight) {
      track.state = 'queued';
      this.#ready.push(track);
      return;
    }
    if (this.#isDown()) {
      this.#fail(track);
      return;
    }
    const order = { ...track.asNew, kind: this.#kindOf(track) };
    const verdict = judgeOrder(this.#ledger, limits, order, this.#now);
    if (!verdict.allowed) {
      this.#defer(track, verdict.bucket, verdict.until);
      return;
    }
    this.#record(changesByOrder, order);
    track.state = 'in flight';
    this.#inFlight += 1;
    this.peakInFlight = Math.max(this.peakInFlight, this.#inFlight);
    this.#count('ordered');
    const inFlight = { track, order, reason, orderedAt: this.#now };
    this.#clock.at(this.#nowMs + orderMs, () => this.#finish(inFlight));
  }

  #kindOf({ spec, held, renewalInfo }: Track): OrderKind {
    const renews = held?.origin === 'acme' && sameNames(held.identifiers, spec.identifiers);
    if (!renews) return 'new';
    return insideWindow(renewalInfo, this.#now) ? 'ari-renewal' : 'renewal';
  }

  #finish({ track, order, reason, orderedAt }: OrderInFlight): void {
    this.#inFlight -= 1;
    const previousNotAfter = track.held?.origin === 'acme' ? track.held.notAfter : undefined;
    const common = {
      certificate: track.spec.name,
      kind: order.kind,
      reason,
      orderedAt,
      previousNotAfter,
    };
    if (this.#isDown()) {
      this.orders.push({ ...common, issuedAt: undefined });
      this.#record(changesByAbandoning, order);
      this.#fail(track);
    } else {
      this.orders.push({ ...common, issuedAt: this.#now });
      this.#record(changesByIssuance, order);
      this.#hold(track);
    }
    this.#proceed();
  }

  #hold(track: Track): void {
    const notBefore = this.#now;
    const notAfter = new Date(this.#nowMs + lifetimeAt(track.lifetimes, notBefore));
    const renewAt = drawRenewAt(notBefore, notAfter, this.#now, this.#request.uniform());
    track.held = { identifiers: track.spec.identifiers, origin: 'acme', notBefore, notAfter, renewAt };
    track.renewalInfo = undefined;
    track.backoff = undefined;
    track.state = 'asleep';
    this.#count('issued');
    this.#ask(track);
    this.#consider(track);
  }

  #fail(track: Track): void {
    const failures = (track.backoff?.failures ?? 0) + 1;
    const heldUntil = track.held?.notAfter;
    const notBefore = backoffUntil(failures, this.#now, this.#request.uniform(), { heldUntil });
    track.backoff = { failures, notBefore, verdict: OUTAGE };
    this.#count('failed');
    this.#wake(track, notBefore);
  }

  #defer(track: Track, bucket: string, until: Date): void {
    track.state = 'queued';
    this.#count('deferred');
    const waiting = this.#deferred.get(bucket) ?? new PriorityQueue<Track>(isMoreUrgent);
    waiting.push(track);
    if (this.#deferred.has(bucket)) return;
    this.#deferred.set(bucket, waiting);
    this.#clock.at(until.getTime(), () => this.#release(bucket));
  }

  /** Lets those go that waited for a bucket, the most urgent first, until it is used up again. */
  #release(bucket: string): void {
    const waiting = this.#deferred.get(bucket);
    if (waiting === undefined) return;
    while (waiting.size > 0) {
      if (this.#inFlight >= this.#request.ordersInFlight) {
        this.#stalled.add(bucket);
        return;
      }
      const track = waiting.pop();
      if (track === undefined) break;
      this.#deferred.delete(bucket);
      this.#consider(track);
      const refused = this.#deferred.get(bucket);
      if (refused !== undefined) {
        // It is used up once more: the others join the one that was refused.
        for (let next = refused.pop(); next !== undefined; next = refused.pop()) waiting.push(next);
        this.#deferred.set(bucket, waiting);
        return;
      }
      this.#deferred.set(bucket, waiting);
    }
    this.#deferred.delete(bucket);
  }

  /** Fills the places of orders that are done. */
  #proceed(): void {
    while (this.#inFlight < this.#request.ordersInFlight) {
      const track = this.#ready.pop();
      if (track === undefined) break;
      this.#consider(track);
    }
    for (const bucket of [...this.#stalled]) {
      if (this.#inFlight >= this.#request.ordersInFlight) return;
      this.#stalled.delete(bucket);
      this.#release(bucket);
    }
  }

  /** Asks for renewal information, or notes that there is no answer, and asks again then. */
  #ask(track: Track): void {
    const { windows, uniform } = this.#request;
    const { held } = track;
    if (windows === undefined || held?.origin !== 'acme' || this.#now >= held.notAfter) return;
    if (this.#isDown()) {
      track.renewalInfo = missWindow(track.renewalInfo, this.#now, uniform());
      this.#askAt(track, track.renewalInfo.nextCheckAt.getTime());
      return;
    }
    const suggestedWindow = windows.suggest(track.spec.name, held, this.#now);
    const info = { suggestedWindow, explanationURL: undefined };
    track.renewalInfo = followWindow(
      track.renewalInfo,
      { info, retryAfter: undefined },
      this.#now,
      uniform(),
    );
  }

  #askAt(track: Track, atMs: number): void {
    const { held } = track;
    this.#clock.at(atMs, () => {
      if (track.held !== held) return;
      this.#ask(track);
      if (track.state === 'asleep') this.#consider(track);
    });
  }

  /** Each certificate hears of it at its next check. Those before it, with the same answer, need not be played. */
  #windowsChange(): void {
    for (const track of this.#tracks) {
      const checkedAt = track.renewalInfo?.suggestion?.checkedAt.getTime();
      const nextMs = track.renewalInfo?.nextCheckAt.getTime();
      if (checkedAt === undefined || nextMs === undefined) continue;
      const everyMs = nextMs - checkedAt;
      const missed = Math.max(0, Math.ceil((this.#nowMs - nextMs) / everyMs));
      this.#askAt(track, nextMs + missed * everyMs);
    }
  }

  #isDown(): boolean {
    return this.#request.outages.some(({ start, end }) => start <= this.#now && this.#now < end);
  }

  #count(what: 'ordered' | 'issued' | 'failed' | 'deferred'): void {
    const day = this.#days[Math.floor((this.#nowMs - this.#request.from.getTime()) / DAY_MS)];
    if (day !== undefined) day[what] += 1;
  }

  /** In place: the ledger of ten thousand certificates is not copied for each of them. */
  #record(changesBy: typeof changesByOrder, order: LimitedOrder): void {
    for (const [key, bucket] of changesBy(this.#ledger, this.#request.limits, order, this.#now)) {
      if (isForgettable(bucket, this.#now)) delete this.#ledger[key];
      else this.#ledger[key] = bucket;
    }
  }
}

/** What expires first goes first; what has never been issued is missed by nobody yet. */
function isMoreUrgent(a: Track, b: Track): boolean {
  return (a.held?.notAfter.getTime() ?? Infinity) < (b.held?.notAfter.getTime() ?? Infinity);
}
