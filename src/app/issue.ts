import type { Logger } from 'pino';
import type { CertificateSpec } from '../domain/model.ts';
import { RateLimitNearError } from '../domain/rate-limit-error.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { Authorities } from './authorities.ts';
import type { Backoffs } from './backoffs.ts';
import type { Bundles } from './bundles.ts';
import { type CompletedOrder, completeOrder } from './complete-order.ts';
import type { AppDeps } from './deps.ts';
import { type BegunOrder, OrderJournal } from './order-journal.ts';
import { reusedKey } from './order-key.ts';
import { lineageOf, type OrderLineage } from './order-lineage.ts';
import type { Preflight } from './preflight.ts';
import { servingFrom } from './probes.ts';
import { assertProfileOffered } from './profile.ts';
import type { LedgerWrite, RateBook } from './rate-book.ts';
import { backoffRecord, challengeRecord, listRecords, loadRecord, orderRecord } from './records.ts';
import { type Rehearsals, rehearsalOf } from './rehearsals.ts';
import { rateLimitedUntil } from './retry-after.ts';

/** What an order led to, and where that is counted. */
interface Obtained extends CompletedOrder {
  readonly key: string;
  readonly book: RateBook;
}

interface Attempt {
  readonly spec: CertificateSpec;
  /** What is ordered for it. */
  readonly asked: CertificateSpec;
  readonly issuer: string;
  readonly reason: string;
  readonly log: Logger;
  /** Puts what was obtained where it belongs, in one transaction with the end of its order. */
  readonly keep: (obtained: Obtained) => Promise<void>;
}

export interface CertificateIssuerParts {
  readonly authorities: Authorities;
  readonly bundles: Bundles;
  readonly backoffs: Backoffs;
  readonly preflight: Preflight;
  readonly rehearsals: Rehearsals;
}

/**
 * Obtains bundles: account, order, authorizations side by side, finalize, download (RFC 8555 section 7.4).
 * Whatever must not be lost is in the store before the next request is sent, so that a kill at any point
 * resumes the same order with the same key.
 */
export class CertificateIssuer {
  readonly #authorities: Authorities;
  readonly #bundles: Bundles;
  readonly #backoffs: Backoffs;
  readonly #preflight: Preflight;
  readonly #rehearsals: Rehearsals;
  readonly #deps: AppDeps;

  constructor(
    { authorities, bundles, backoffs, preflight, rehearsals }: CertificateIssuerParts,
    deps: AppDeps,
  ) {
    this.#authorities = authorities;
    this.#bundles = bundles;
    this.#backoffs = backoffs;
    this.#preflight = preflight;
    this.#rehearsals = rehearsals;
    this.#deps = deps;
  }

  /**
   * Resolves once the new bundle is active in the store. Where the issuer wants a rehearsal first, it is not asked
   * before that has succeeded. A failure is stored as back-off of whoever was asked before it is thrown.
   */
  async issue(spec: CertificateSpec, issuer: string, reason: string, options: EffectOptions): Promise<void> {
    const staging = await this.#rehearsals.stagingFor(spec, issuer, options);
    if (staging !== undefined) {
      const log = this.#deps.log.child({ certificate: spec.name, issuer: staging, rehearsalFor: issuer });
      const keep = (obtained: Obtained) => this.#keepProof(spec, issuer, staging, obtained, options);
      const asked = rehearsalOf(spec);
      await this.#attempt({ spec, asked, issuer: staging, reason, log, keep }, options);
    }
    const log = this.#deps.log.child({ certificate: spec.name, issuer });
    const keep = (obtained: Obtained) => this.#activate(spec, issuer, reason, obtained, options);
    await this.#attempt({ spec, asked: spec, issuer, reason, log, keep }, options);
  }

  async #attempt({ spec, asked, issuer, reason, log, keep }: Attempt, options: EffectOptions): Promise<void> {
    const startedMs = this.#deps.clock.monotonicMs();
    log.info({ reason, identifiers: spec.identifiers }, 'issuance started');
    try {
      const obtainAndKeep = async () => keep(await this.#obtain(asked, issuer, log, options));
      await this.#authorities.using(issuer, obtainAndKeep, options);
      log.info({ durationMs: Math.round(this.#deps.clock.monotonicMs() - startedMs) }, 'issuance finished');
    } catch (error) {
      // A stop or a lost mandate says nothing about the CA: the order is taken up again.
      if (options.signal.aborted || options.mandate.signal.aborted) throw error;
      const backoff = await this.#backoffs.note(spec, issuer, error, log, options);
      if (error instanceof RateLimitNearError) log.warn({ err: error, ...backoff }, 'issuance put off');
      else log.error({ err: error, ...backoff }, 'issuance failed');
      throw error;
    }
  }

  /** Throws `ERR_RATE_LIMIT_NEAR` where `issue` would, before the CA is asked. Reads only. */
  async assertTakes(spec: CertificateSpec, issuer: string, options: { signal: AbortSignal }): Promise<void> {
    const staging = await this.#rehearsals.stagingFor(spec, issuer, options);
    if (staging !== undefined) await this.#assertTakes(spec, staging, options);
    await this.#assertTakes(spec, issuer, options);
  }

  async #assertTakes(spec: CertificateSpec, issuer: string, options: { signal: AbortSignal }): Promise<void> {
    const book = await this.#authorities.book(issuer);
    if (!(await this.#authorities.isRegistered(issuer, options))) await book.assertRegisters(options);
    const underWay = await loadRecord(this.#deps.store, orderRecord, [spec.name, issuer], options);
    if (underWay !== undefined) return;
    const { kind } = await this.#lineageOf(spec, issuer, options);
    await book.assertTakes({ identifiers: spec.identifiers, kind }, options);
  }

  async #obtain(
    spec: CertificateSpec,
    issuer: string,
    log: Logger,
    options: EffectOptions,
  ): Promise<Obtained> {
    const book = await this.#authorities.book(issuer);
    const terms = this.#authorities.terms(spec, issuer);
    const journal = new OrderJournal(spec, issuer, { ...this.#deps, book, terms, log });
    const lineage = await this.#lineageOf(spec, issuer, options);
    const { kind } = lineage;
    const stored = await journal.load(options);
    if (stored === undefined) await book.assertTakes({ identifiers: spec.identifiers, kind }, options);
    // Before the CA hears of it, unless the CA has already seen the path work.
    const inTime = stored?.order.state !== 'finalizing';
    const accountUri = await this.#authorities.accountUrl(issuer, options);
    if (inTime) {
      await assertProfileOffered(terms, issuer, await this.#authorities.connection(issuer, options), options);
      const whileServing = servingFrom(this.#deps, options);
      await this.#preflight.assertReachable(spec.identifiers, { whileServing, log }, options);
      await this.#assertPermitted(spec, issuer, { accountUri, log }, options);
    }
    const authority = await leavingAlone(book, () => this.#authorities.of(issuer, options), options);
    if (inTime && accountUri === undefined) {
      const registered = await authority.ensureAccount(options);
      await this.#assertPermitted(spec, issuer, { accountUri: registered, log }, options);
    }
    const taken = stored;
    const resumed =
      taken && (await leavingAlone(book, () => journal.resume(taken, authority, options), options));
    const begun = resumed ?? (await this.#open(spec, authority, journal, { ...lineage, log }, options));
    const parties = { authority, journal, book, issuer, terms, clock: this.#deps.clock };
    const completed = await leavingAlone(book, () => completeOrder(spec, begun, parties, options), options);
    return { ...completed, key: journal.key, book };
  }

  async #open(
    spec: CertificateSpec,
    authority: CertificateAuthority,
    journal: OrderJournal,
    { log, ...lineage }: OrderLineage & { readonly log: Logger },
    options: EffectOptions,
  ): Promise<BegunOrder> {
    const held = await this.#bundles.active(spec.name, options);
    const keyPem = await reusedKey(spec, held, { ...this.#deps, log }, options);
    return journal.open(authority, { ...lineage, keyPem }, options);
  }

  /** The rehearsal is over: only that it succeeded is kept. Its certificate and the key of it are destroyed. */
  async #keepProof(
    spec: CertificateSpec,
    issuer: string,
    staging: string,
    { stored, key, book }: Obtained,
    options: EffectOptions,
  ): Promise<void> {
    const proof = this.#rehearsals.succeeded(spec, issuer, staging);
    const challenges = stored.order.challengeTokens.map((token) => challengeRecord.key(token));
    const deletes = [key, backoffRecord.key(spec.name, staging), ...challenges];
    const write = ({ conditions, puts }: LedgerWrite) =>
      this.#deps.store.transact(
        { conditions: [{ key, revision: stored.revision }, ...conditions], puts: [proof, ...puts], deletes },
        options,
      );
    await book.changing(book.issued(stored.order), write, options);
  }

  async #activate(
    spec: CertificateSpec,
    issuer: string,
    reason: string,
    { chainPem, stored, key, book }: Obtained,
    options: EffectOptions,
  ): Promise<void> {
    await this.#abandonOthers(spec, issuer, options);
    const orders = await listRecords(this.#deps.store, orderRecord, [spec.name], options);
    const made = { chainPem, keyPem: stored.order.keyPem, origin: 'acme', issuer, reason } as const;
    const own = { key, revision: stored.revision };
    // Also of issuers that are not configured any more.
    const deletes = [
      backoffRecord.key(spec.name, issuer),
      ...orders.flatMap(({ key, value }) => [
        key,
        ...value.challengeTokens.map((token) => challengeRecord.key(token)),
      ]),
    ];
    await book.changing(
      book.issued(stored.order),
      ({ conditions, puts }) =>
        this.#bundles.activate(spec, made, { conditions: [own, ...conditions], puts, deletes }, options),
      options,
    );
  }

  /** Orders at other issuers have lost their purpose; what their CAs have counted stays in the ledgers. */
  async #abandonOthers(spec: CertificateSpec, issuer: string, options: EffectOptions): Promise<void> {
    for (const other of this.#authorities.names().filter((name) => name !== issuer)) {
      if ((await loadRecord(this.#deps.store, orderRecord, [spec.name, other], options)) === undefined)
        continue;
      const book = await this.#authorities.book(other);
      const terms = this.#authorities.terms(spec, other);
      const log = this.#deps.log.child({ certificate: spec.name, issuer: other });
      const journal = new OrderJournal(spec, other, { ...this.#deps, book, terms, log });
      const stored = await journal.load(options);
      if (stored !== undefined) await journal.abandon(stored, `${issuer} has issued instead`, options);
    }
  }

  #lineageOf(spec: CertificateSpec, issuer: string, options: { signal: AbortSignal }): Promise<OrderLineage> {
    return lineageOf(spec, issuer, { ...this.#deps, bundles: this.#bundles }, options);
  }

  /** Throws `ERR_CAA_DENIED`; an account that is not registered yet is no reason. */
  async #assertPermitted(
    spec: CertificateSpec,
    issuer: string,
    { accountUri, log }: { accountUri: string | undefined; log: Logger },
    options: EffectOptions,
  ): Promise<void> {
    const authority = await this.#authorities.connection(issuer, options);
    const identities = await authority.caaIdentities(options);
    const caaIssuer = { identities, accountUri, validationMethod: 'http-01' };
    await this.#preflight.assertPermitted(spec.identifiers, { issuer: caaIssuer, log }, options);
  }
}

/** Runs `work`. A CA that asks to be left alone is left alone by every certificate. */
async function leavingAlone<T>(book: RateBook, work: () => Promise<T>, options: EffectOptions): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const notBefore = rateLimitedUntil(error);
    if (notBefore !== undefined) await book.record(book.heldOff(notBefore), options);
    throw error;
  }
}

/** Removes challenges that belong to no order: a kill during a check of the challenge path leaves them. */
export async function sweepChallenges(store: StateStore, options: EffectOptions): Promise<void> {
  const orders = await listRecords(store, orderRecord, [], options);
  const needed = new Set(
    orders.flatMap(({ value }) => value.challengeTokens.map((token) => challengeRecord.key(token))),
  );
  const challenges = await store.list(`${challengeRecord.name}/`, options);
  const deletes = challenges.map(({ key }) => key).filter((key) => !needed.has(key));
  if (deletes.length > 0) await store.transact({ conditions: [], puts: [], deletes }, options);
}
