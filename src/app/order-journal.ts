import type { Logger } from 'pino';
import { type ErrorCode, KacmeError } from '../domain/errors.ts';
import type { IssuanceTerms } from '../domain/issuance-terms.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { sameNames } from '../domain/same-names.ts';
import { keyTypeOf, publicKeyHash } from '../domain/x509.ts';
import type { Authorization, CertificateAuthority, Order } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Transaction } from '../ports/state-store.ts';
import type { AppDeps } from './deps.ts';
import { readUncountedFailures } from './failed-validations.ts';
import type { OrderLineage } from './order-lineage.ts';
import { hasOtherProfile } from './profile.ts';
import type { LedgerChange, RateBook } from './rate-book.ts';
import { challengeRecord, loadRecord, type OrderRecord, orderRecord } from './records.ts';
import { rateLimitedUntil } from './retry-after.ts';
import { RevokedBundles } from './revoked.ts';

export interface StoredOrder {
  readonly order: OrderRecord;
  readonly revision: number;
}

/** An order that the CA knows, as it tells it. */
export interface BegunOrder {
  readonly stored: StoredOrder;
  readonly order: Order;
}

interface PendingChallenge {
  readonly authorization: Authorization;
  readonly http01: NonNullable<Authorization['http01']>;
}

type OrderJournalDeps = Pick<AppDeps, 'store' | 'clock' | 'pki' | 'log'> & {
  readonly book: RateBook;
  readonly terms: IssuanceTerms;
};

/** How an order ended, for the ledger. */
export interface OrderEnd {
  /**
   * Whether the CA has counted a certificate for it, or may have. Undefined: when finalize was sent, since a delayed one
   * may still arrive.
   */
  readonly issued?: boolean;
  /** What else the CA has counted. */
  readonly also?: LedgerChange;
}

/** The CA's no to an order, whatever its reason. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'ERR_ACME_PROBLEM',
  'ERR_ACME_PROFILE',
  'ERR_ACME_RATE_LIMITED',
  'ERR_ACME_TERMS',
]);

/**
 * The in-flight order of one certificate at one issuer, in the store. Each state is written before the request
 * that it announces: `creating` before newOrder, `finalizing` before finalize.
 */
export class OrderJournal {
  readonly key: string;
  readonly #spec: CertificateSpec;
  readonly #issuer: string;
  readonly #deps: OrderJournalDeps;
  readonly #log: Logger;

  constructor(spec: CertificateSpec, issuer: string, deps: OrderJournalDeps) {
    this.#spec = spec;
    this.#issuer = issuer;
    this.#deps = deps;
    this.#log = deps.log;
    this.key = orderRecord.key(spec.name, issuer);
  }

  async load(options: { signal: AbortSignal }): Promise<StoredOrder | undefined> {
    const held = await loadRecord(this.#deps.store, orderRecord, [this.#spec.name, this.#issuer], options);
    return held === undefined ? undefined : { order: held.value, revision: held.revision };
  }

  /** Asks the CA how a stored order stands; one that cannot be taken up is abandoned, and undefined is the result. */
  async resume(
    stored: StoredOrder,
    authority: CertificateAuthority,
    options: EffectOptions,
  ): Promise<BegunOrder | undefined> {
    const { url, identifiers } = stored.order;
    if (url === undefined) {
      await this.abandon(stored, 'its newOrder was sent but the answer was lost', options);
      return undefined;
    }
    if (!sameNames(identifiers, this.#spec.identifiers)) {
      await this.abandon(stored, 'the configured identifiers have changed', options);
      return undefined;
    }
    if (keyTypeOf(stored.order.keyPem) !== this.#spec.key) {
      await this.abandon(stored, 'the configured key type has changed', options);
      return undefined;
    }
    const revoked = await RevokedBundles.load(this.#deps.store, options);
    if (revoked.keys.has(publicKeyHash(stored.order.keyPem))) {
      await this.abandon(stored, 'a certificate with its key is revoked, or to be', options);
      return undefined;
    }
    const order = await authority.order(url, options);
    if (order === undefined) {
      await this.abandon(stored, 'the CA no longer knows it', options);
      return undefined;
    }
    if (order.status === 'invalid') {
      const sources = { authority, log: this.#log };
      const failed = await readUncountedFailures(stored.order, order, sources, options);
      const reason = order.error ?? 'the CA says it is invalid';
      await this.abandon(stored, reason, options, { issued: false, also: this.#deps.book.failed(failed) });
      return undefined;
    }
    if (hasOtherProfile(order, this.#deps.terms)) {
      const issued = order.status === 'processing' || order.status === 'valid';
      await this.abandon(stored, 'the configured profile has changed', options, { issued });
      return undefined;
    }
    this.#log.info({ order: url, status: order.status }, 'order resumed');
    return { stored, order };
  }

  /**
   * Orders, to finalize with `keyPem` or a new key. Throws `ERR_RATE_LIMIT_NEAR`, with nothing stored or sent, when the
   * CA would not take an order of this `kind`.
   */
  async open(
    authority: CertificateAuthority,
    {
      kind,
      replaces,
      kindAlone = kind,
      keyPem,
    }: Pick<OrderLineage, 'kind'> & Partial<OrderLineage> & { readonly keyPem?: string | undefined },
    options: EffectOptions,
  ): Promise<BegunOrder> {
    const intent: OrderRecord = {
      identifiers: [...this.#spec.identifiers],
      keyPem: keyPem ?? (await this.#deps.pki.generateKey(this.#spec.key)),
      url: undefined,
      state: 'creating',
      kind,
      challengeTokens: [],
      createdAt: this.#deps.clock.now().toISOString(),
    };
    const { book, terms } = this.#deps;
    const announced = await book.changing(
      book.ordered(intent),
      (part) => this.#put(intent, 0, part, options),
      options,
    );
    let order: Order;
    try {
      order = await authority.newOrder(this.#spec.identifiers, {
        ...options,
        replaces,
        profile: terms.profile?.value,
      });
    } catch (error) {
      // The CA said no: there is no order. Anything else leaves open whether there is one.
      if (error instanceof KacmeError && REFUSALS.has(error.code)) {
        const notBefore = rateLimitedUntil(error);
        const refused = notBefore === undefined ? {} : { also: book.refused(intent, notBefore) };
        await this.abandon(announced, error.message, options, refused);
      }
      throw error;
    }
    const { url, expires, replaces: accepted } = order;
    this.#log.info(
      { order: url, expires, replaces: accepted, keyReused: keyPem !== undefined },
      'order created',
    );
    // RFC 9773 section 5: a CA that accepts it repeats it.
    const counted = replaces !== undefined && accepted === undefined ? kindAlone : kind;
    const created: OrderRecord = { ...intent, url: order.url, state: 'created', kind: counted };
    const stored = await book.changing(
      counted === kind ? (ledger) => ledger : book.recounted(intent, created),
      (part) => this.#put(created, announced.revision, part, options),
      options,
    );
    return { stored, order };
  }

  async publishChallenges(
    stored: StoredOrder,
    challenges: readonly PendingChallenge[],
    options: EffectOptions,
  ): Promise<StoredOrder> {
    const createdAt = this.#deps.clock.now().toISOString();
    const puts = challenges.map(({ authorization, http01 }) => ({
      key: challengeRecord.key(http01.token),
      value: challengeRecord.serialize({
        identifier: authorization.identifier,
        keyAuthorization: http01.keyAuthorization,
        createdAt,
      }),
    }));
    const tokens = challenges.map(({ http01 }) => http01.token);
    const challengeTokens = [...new Set([...stored.order.challengeTokens, ...tokens])];
    return this.#put({ ...stored.order, challengeTokens }, stored.revision, { puts }, options);
  }

  async finalizing(stored: StoredOrder, options: EffectOptions): Promise<StoredOrder> {
    return this.#put({ ...stored.order, state: 'finalizing' }, stored.revision, {}, options);
  }

  /** Forgets the order and its challenges. */
  async abandon(
    stored: StoredOrder,
    reason: string,
    options: EffectOptions,
    { issued = stored.order.state === 'finalizing', also = (ledger) => ledger }: OrderEnd = {},
  ): Promise<void> {
    const { book, store } = this.#deps;
    const tokens = stored.order.challengeTokens.map((token) => challengeRecord.key(token));
    const ended = issued ? book.issued(stored.order) : book.abandoned(stored.order);
    await book.changing(
      // What this order itself held back must not count when the limit is looked for that refused it.
      (ledger, now) => also(ended(ledger, now), now),
      ({ conditions, puts }) =>
        store.transact(
          {
            conditions: [{ key: this.key, revision: stored.revision }, ...conditions],
            puts,
            deletes: [this.key, ...tokens],
          },
          options,
        ),
      options,
    );
    this.#log.warn({ order: stored.order.url, reason, countedAsIssued: issued }, 'order abandoned');
  }

  async #put(
    order: OrderRecord,
    ifRevision: number,
    more: Partial<Pick<Transaction, 'conditions' | 'puts'>>,
    options: EffectOptions,
  ): Promise<StoredOrder> {
    const revision = await this.#deps.store.transact(
      {
        conditions: [{ key: this.key, revision: ifRevision }, ...(more.conditions ?? [])],
        puts: [{ key: this.key, value: orderRecord.serialize(order) }, ...(more.puts ?? [])],
        deletes: [],
      },
      options,
    );
    return { order, revision };
  }
}
