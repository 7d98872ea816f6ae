import type { Logger } from 'pino';
import { KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { RateLimitNearError } from '../domain/rate-limit-error.ts';
import { readBundlePem, renderBundlePem } from '../domain/x509.ts';
import type { CertificateAuthority, Order } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { Authorities } from './authorities.ts';
import { authorizeOrder } from './authorize.ts';
import type { Backoffs } from './backoffs.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { OrderJournal, type StoredOrder } from './order-journal.ts';
import { reusedKey } from './order-key.ts';
import { lineageOf, type OrderLineage } from './order-lineage.ts';
import { downloadChain } from './preferred-chain.ts';
import type { Preflight } from './preflight.ts';
import { servingFrom } from './probes.ts';
import { assertProfileOffered } from './profile.ts';
import type { LedgerWrite, RateBook } from './rate-book.ts';
import { backoffRecord, challengeRecord, listRecords, loadRecord, orderRecord } from './records.ts';
import { type Rehearsals, rehearsalOf } from './rehearsals.ts';
import { rateLimitedUntil } from './retry-after.ts';

/** A clock may be behind that of the CA by so much; most CAs allow for an hour. */
const CLOCK_SKEW_MS = 60_000;

/** What an order led to, and the record in which it still stands. */
interface Obtained {
  readonly chainPem: string;
  readonly stored: StoredOrder;
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
    const { kind, replaces } = await this.#lineageOf(spec, issuer, options);
    let stored = await journal.load(options);
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
    const authority = await this.#authorityOf(issuer, book, options);
    if (inTime && accountUri === undefined) {
      const registered = await authority.ensureAccount(options);
      await this.#assertPermitted(spec, issuer, { accountUri: registered, log }, options);
    }
    let order: Order | undefined;
    if (stored !== undefined) ({ stored, order } = await journal.resume(stored, authority, options));
    if (stored === undefined || order === undefined) {
      const held = await this.#bundles.active(spec.name, options);
      const keyPem = await reusedKey(spec, held, { ...this.#deps, log }, options);
      ({ stored, order } = await journal.open(authority, { kind, replaces, keyPem }, options));
    }

    if (order.status === 'pending') {
      stored = await authorizeOrder(order, stored, { authority, journal, book }, options);
      order = await authority.awaitOrder(order.url, options);
    }
    if (order.status === 'ready') {
      stored = await journal.finalizing(stored, options);
      order = await authority.finalize(
        order,
        { keyPem: stored.order.keyPem, identifiers: spec.identifiers },
        options,
      );
    }
    if (order.status === 'processing') order = await authority.awaitOrder(order.url, options);
    if (order.status !== 'valid' || order.certificate === undefined) {
      const reason = order.error ?? deadEndOf(order);
      await journal.abandon(stored, reason, options);
      throw new KacmeError(
        'ERR_ACME_ORDER',
        `order ${order.url} for ${spec.identifiers.join(', ')} is ${order.status}: ${reason}`,
        {
          retry: 'later',
          problems: order.problems ?? [],
          remedy: 'kacme orders again by itself; read what the CA says about each identifier',
        },
      );
    }
    const { certificate: url } = order;
    const download = () => downloadChain(url, terms, issuer, authority, options);
    const chainPem = await this.#believed(download, { stored, journal }, options);
    const flaw = flawOf(spec, chainPem, stored.order.keyPem, this.#deps.clock.now());
    if (flaw !== undefined) {
      // The CA would give the same chain again.
      await journal.abandon(stored, flaw, options);
      throw new KacmeError(
        'ERR_CERTIFICATE_UNUSABLE',
        `the certificate that ${issuer} issued for ${spec.name} (${order.certificate}) is not usable: ${flaw}`,
        {
          retry: 'later',
          remedy:
            'the bundle in use stays and kacme orders again; if it lasts, ask the CA or name another issuer',
        },
      );
    }
    return { chainPem, stored, key: journal.key, book };
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
    const orders = await listRecords(this.#deps.store, orderRecord, [spec.name], options);
    const made = { chainPem, keyPem: stored.order.keyPem, origin: 'acme', issuer, reason } as const;
    const own = { key, revision: stored.revision };
    // Orders at other issuers have lost their purpose too.
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

  /** The order goes with a chain that its CA got wrong: it would give the same one again. */
  async #believed(
    download: () => Promise<string>,
    { stored, journal }: { stored: StoredOrder; journal: OrderJournal },
    options: EffectOptions,
  ): Promise<string> {
    try {
      return await download();
    } catch (error) {
      const { code, message } = reportError(error);
      if (code === 'ERR_CERTIFICATE_UNUSABLE') await journal.abandon(stored, message, options);
      throw error;
    }
  }

  #lineageOf(spec: CertificateSpec, issuer: string, options: { signal: AbortSignal }): Promise<OrderLineage> {
    return lineageOf(spec, issuer, { ...this.#deps, bundles: this.#bundles }, options);
  }

  /** The issuer with its account. A CA that asks to be left alone is left alone by every certificate. */
  async #authorityOf(issuer: string, book: RateBook, options: EffectOptions): Promise<CertificateAuthority> {
    try {
      return await this.#authorities.of(issuer, options);
    } catch (error) {
      const notBefore = rateLimitedUntil(error);
      if (notBefore !== undefined) await book.record(book.heldOff(notBefore), options);
      throw error;
    }
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

/** Why an order without an error of its own leads to no certificate. */
const deadEndOf = ({ status }: Order): string =>
  status === 'valid' ? 'but the CA names no certificate for it' : 'the CA gives no reason';

/** Why a download is not believed: it must fit the key, cover every identifier and be valid now. */
function flawOf(spec: CertificateSpec, chainPem: string, keyPem: string, now: Date): string | undefined {
  const content = readBundlePem(renderBundlePem(chainPem, keyPem));
  if (content.state === 'broken') return content.reason;
  const { identifiers, notBefore, notAfter } = content.facts;
  const missing = spec.identifiers.filter((identifier) => !identifiers.includes(identifier));
  if (missing.length > 0) return `it does not cover ${missing.join(', ')}`;
  if (now >= notAfter) return `it expired at ${notAfter.toISOString()}`;
  return notBefore.getTime() - now.getTime() > CLOCK_SKEW_MS
    ? `it is not valid before ${notBefore.toISOString()} (is the clock here right?)`
    : undefined;
}
