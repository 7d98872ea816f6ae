import { isDeepStrictEqual } from 'node:util';
import { reportError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';
import {
  EVERY_REQUEST,
  judgeAccount,
  judgeOrder,
  type Ledger,
  type LimitVerdict,
  recordAbandoned,
  recordAccount,
  recordFailedAuthorization,
  recordIssuance,
  recordOrder,
  recordRateLimited,
  scopeOfRefusal,
} from '../domain/rate-ledger.ts';
import { RateLimitNearError } from '../domain/rate-limit-error.ts';
import { type LimitedOrder, limitedOrder, type OrderKind } from '../domain/rate-limits.ts';
import type { RegisteredDomain } from '../domain/registered-domain.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Transaction, Versioned } from '../ports/state-store.ts';
import type { AppDeps } from './deps.ts';
import { ledgerRecord, loadRecord } from './records.ts';

/** What happened, as a change of the ledger. It may throw instead, and then nothing is written. */
export type LedgerChange = (ledger: Ledger, now: Date) => Ledger;

/** What of an order its CA counts. */
interface CountedOrder {
  readonly identifiers: readonly string[];
  readonly kind: OrderKind;
}

/** The part of a transaction that changes the ledger. */
export type LedgerWrite = Pick<Transaction, 'conditions' | 'puts'>;

export type RateBookDeps = Pick<AppDeps, 'store' | 'clock'> & { readonly registeredDomain: RegisteredDomain };

/**
 * What kacme asked of one issuer, in the store, held against its limits. Issuers at the same ACME directory share one
 * ledger, each with its own account in it. The account goes by the issuer's name, which it is stored under too, and
 * which is known before the CA has heard of it.
 */
export class RateBook {
  readonly #issuer: IssuerSpec;
  readonly #deps: RateBookDeps;

  constructor(issuer: IssuerSpec, deps: RateBookDeps) {
    this.#issuer = issuer;
    this.#deps = deps;
  }

  async ledger(options: { signal: AbortSignal }): Promise<Ledger> {
    return (await this.#load(options))?.value.buckets ?? {};
  }

  /** Throws `ERR_RATE_LIMIT_NEAR` unless the CA would take an order for these names now. */
  async assertTakes(order: CountedOrder, options: { signal: AbortSignal }): Promise<void> {
    this.#assertTakes(await this.ledger(options), order, this.#deps.clock.now());
  }

  /** Throws `ERR_RATE_LIMIT_NEAR` unless the CA would register another account now. */
  async assertRegisters(options: { signal: AbortSignal }): Promise<void> {
    const verdict = judgeAccount(await this.ledger(options), this.#issuer.limits, this.#deps.clock.now());
    if (verdict.allowed) return;
    throw this.#near(`cannot register an account at ${this.#issuer.name} yet`, verdict);
  }

  /** An order that is about to be sent; throws `ERR_RATE_LIMIT_NEAR` if the CA would not take it any more. */
  ordered(order: CountedOrder): LedgerChange {
    return (ledger, now) => {
      this.#assertTakes(ledger, order, now);
      return recordOrder(ledger, this.#issuer.limits, this.#limited(order), now);
    };
  }

  /** An order that the CA counts otherwise than was thought when it was sent. */
  recounted(before: CountedOrder, after: CountedOrder): LedgerChange {
    const { limits } = this.#issuer;
    return (ledger, now) => {
      const without = recordAbandoned(ledger, limits, this.#limited(before), now);
      return recordOrder(without, limits, this.#limited(after), now);
    };
  }

  issued(order: CountedOrder): LedgerChange {
    return (ledger, now) => recordIssuance(ledger, this.#issuer.limits, this.#limited(order), now);
  }

  abandoned(order: CountedOrder): LedgerChange {
    return (ledger, now) => recordAbandoned(ledger, this.#issuer.limits, this.#limited(order), now);
  }

  /** The CA refused the order for its rate limits. Where its limits are not known, that holds for the account. */
  refused(order: CountedOrder, notBefore: Date): LedgerChange {
    const { limits } = this.#issuer;
    const limited = this.#limited(order);
    return (ledger, now) => {
      const known = Object.keys(limits).length > 0;
      const scope = known ? scopeOfRefusal(ledger, limits, limited, now) : limited.account.key;
      return recordRateLimited(ledger, scope, notBefore, now);
    };
  }

  /** The CA could not validate these identifiers. */
  failed(identifiers: readonly string[]): LedgerChange {
    const { name: account, limits } = this.#issuer;
    return (ledger, now) =>
      identifiers.reduce(
        (counted, identifier) => recordFailedAuthorization(counted, limits, { account, identifier }, now),
        ledger,
      );
  }

  /** The CA refused something else than an order: nothing is asked of it until then. */
  heldOff(notBefore: Date): LedgerChange {
    return (ledger, now) => recordRateLimited(ledger, EVERY_REQUEST, notBefore, now);
  }

  registered(): LedgerChange {
    return (ledger, now) => recordAccount(ledger, this.#issuer.limits, now);
  }

  /**
   * Calls `write` with the part of its transaction that changes the ledger, and again whenever another certificate
   * has changed the ledger in between. Nothing is written by itself.
   */
  async changing<T>(
    change: LedgerChange,
    write: (part: LedgerWrite) => Promise<T>,
    options: { signal: AbortSignal },
  ): Promise<T> {
    for (;;) {
      const held = await this.#load(options);
      const part = this.#write(held, change);
      try {
        return await write(part);
      } catch (error) {
        const { code } = reportError(error);
        if (code !== 'ERR_STORE_CONFLICT' || part.puts.length === 0) throw error;
        // It was about something else of the transaction.
        if ((await this.#load(options))?.revision === held?.revision) throw error;
      }
    }
  }

  /** Writes a change that belongs to nothing else. */
  async record(change: LedgerChange, options: EffectOptions): Promise<void> {
    const write = async (part: LedgerWrite) => {
      if (part.puts.length > 0) await this.#deps.store.transact({ ...part, deletes: [] }, options);
    };
    await this.changing(change, write, options);
  }

  #write(held: Versioned<{ readonly buckets: Ledger }> | undefined, change: LedgerChange): LedgerWrite {
    const { directory } = this.#issuer;
    const before = held?.value.buckets ?? {};
    const buckets = change(before, this.#deps.clock.now());
    if (isDeepStrictEqual(before, buckets)) return { conditions: [], puts: [] };
    const key = ledgerRecord.key(directory);
    return {
      conditions: [{ key, revision: held?.revision ?? 0 }],
      puts: [{ key, value: ledgerRecord.serialize({ directory, buckets }) }],
    };
  }

  #load(options: { signal: AbortSignal }) {
    return loadRecord(this.#deps.store, ledgerRecord, this.#issuer.directory, options);
  }

  #limited(order: CountedOrder): LimitedOrder {
    const { identifiers, kind } = order;
    return limitedOrder({ account: this.#issuer.name, identifiers, kind }, this.#deps.registeredDomain);
  }

  #assertTakes(ledger: Ledger, order: CountedOrder, now: Date): void {
    const verdict = judgeOrder(ledger, this.#issuer.limits, this.#limited(order), now);
    if (verdict.allowed) return;
    throw this.#near(`cannot order ${order.identifiers.join(', ')} from ${this.#issuer.name} yet`, verdict);
  }

  #near(attempted: string, { limit, reason, until }: LimitVerdict & { readonly allowed: false }): Error {
    const numbers = limit === 'server' ? undefined : this.#issuer.limits[limit];
    const explained =
      numbers && `${limit}: ${numbers.capacity}, one back every ${numbers.refillMs / 1_000} s`;
    return new RateLimitNearError(
      attempted,
      explained === undefined ? reason : `${reason} (${explained})`,
      until,
    );
  }
}
