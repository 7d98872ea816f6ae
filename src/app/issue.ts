import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { backoffUntil } from '../domain/renewal.ts';
import { certificatesIn, factsOf, readBundlePem, renderBundlePem } from '../domain/x509.ts';
import type { Authorization, CertificateAuthority, Order } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Authorities } from './authorities.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { OrderJournal, type StoredOrder } from './order-journal.ts';
import { backoffRecord, challengeRecord, loadRecord } from './records.ts';

/**
 * Obtains bundles: account, order, authorizations side by side, finalize, download (RFC 8555 section 7.4).
 * Whatever must not be lost is in the store before the next request is sent, so that a kill at any point
 * resumes the same order with the same key.
 */
export class CertificateIssuer {
  readonly #authorities: Authorities;
  readonly #bundles: Bundles;
  readonly #deps: AppDeps;

  constructor(authorities: Authorities, bundles: Bundles, deps: AppDeps) {
    this.#authorities = authorities;
    this.#bundles = bundles;
    this.#deps = deps;
  }

  /** Resolves once the new bundle is active in the store. A failure is stored as back-off before it is thrown. */
  async issue(spec: CertificateSpec, issuer: string, reason: string, options: EffectOptions): Promise<void> {
    const log = this.#deps.log.child({ certificate: spec.name, issuer });
    const startedMs = this.#deps.clock.monotonicMs();
    log.info({ reason, identifiers: spec.identifiers }, 'issuance started');
    try {
      await this.#obtain(spec, issuer, reason, log, options);
      log.info({ durationMs: Math.round(this.#deps.clock.monotonicMs() - startedMs) }, 'issuance finished');
    } catch (error) {
      // A stop or a lost mandate says nothing about the CA: the order is taken up again.
      if (options.signal.aborted || options.mandate.signal.aborted) throw error;
      await this.#backOff(spec, issuer, error, log, options);
      throw error;
    }
  }

  async #obtain(
    spec: CertificateSpec,
    issuer: string,
    reason: string,
    log: Logger,
    options: EffectOptions,
  ): Promise<void> {
    const journal = new OrderJournal(spec, issuer, { ...this.#deps, log });
    let stored = await journal.load(options);
    // Before the CA hears of it, unless the CA has already seen the path work.
    if (stored?.order.state !== 'finalizing') await this.#checkChallengePath(spec, log, options);

    const authority = await this.#authorities.of(issuer, options);
    let order: Order | undefined;
    if (stored !== undefined) ({ stored, order } = await journal.resume(stored, authority, options));
    if (stored === undefined || order === undefined)
      ({ stored, order } = await journal.open(authority, options));

    if (order.status === 'pending') {
      stored = await this.#authorize(authority, order, stored, journal, options);
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
      await journal.abandon(stored, order.error ?? `the order is ${order.status}`, options);
      throw new KacmeError(
        'ERR_ACME_ORDER',
        `order ${order.url} for ${spec.identifiers.join(', ')} is ${order.status}: ${order.error ?? 'the CA gives no reason'}`,
        {
          retry: 'later',
          remedy: 'kacme orders again by itself; read what the CA says about each identifier',
        },
      );
    }
    const chainPem = await authority.certificate(order.certificate, options);
    requireUsable(spec, chainPem, stored.order.keyPem, this.#deps.clock.now());
    await this.#bundles.activate(
      spec,
      { chainPem, keyPem: stored.order.keyPem, origin: 'acme', issuer, reason },
      {
        conditions: [{ key: journal.key, revision: stored.revision }],
        deletes: [
          journal.key,
          backoffRecord.key(spec.name, issuer),
          ...stored.order.challengeTokens.map((token) => challengeRecord.key(token)),
        ],
      },
      options,
    );
  }

  /** Serves a token of our own and fetches it as the CA would, for every identifier side by side. */
  async #checkChallengePath(spec: CertificateSpec, log: Logger, options: EffectOptions): Promise<void> {
    const { selfCheck, store, clock } = this.#deps;
    if (selfCheck === undefined) return;
    const probes = spec.identifiers.map((identifier) => {
      const token = randomBytes(32).toString('base64url');
      const keyAuthorization = `${token}.${randomBytes(32).toString('base64url')}`;
      return { identifier, token, keyAuthorization, createdAt: clock.now().toISOString() };
    });
    const keys = probes.map(({ token }) => challengeRecord.key(token));
    const puts = probes.map(({ token, ...challenge }) => ({
      key: challengeRecord.key(token),
      value: challengeRecord.serialize(challenge),
    }));
    await store.transact({ conditions: [], puts, deletes: [] }, options);
    try {
      await Promise.all(
        probes.map(({ identifier, token, keyAuthorization }) =>
          selfCheck(identifier, token, keyAuthorization, options),
        ),
      );
      log.debug({ identifiers: spec.identifiers }, 'challenge path checked');
    } finally {
      if (!options.mandate.signal.aborted) {
        const cleanup = { signal: AbortSignal.timeout(5_000), mandate: options.mandate };
        await store.transact({ conditions: [], puts: [], deletes: keys }, cleanup);
      }
    }
  }

  async #authorize(
    authority: CertificateAuthority,
    order: Order,
    stored: StoredOrder,
    journal: OrderJournal,
    options: EffectOptions,
  ): Promise<StoredOrder> {
    const authorizations = await Promise.all(
      order.authorizations.map((url) => authority.authorization(url, options)),
    );
    const pending = authorizations.filter(({ status }) => status === 'pending');
    const challenges = pending.map((authorization) => ({
      authorization,
      http01: requireHttp01(authorization),
    }));
    // One durable write for all of them: the CA may ask the moment it is told.
    const published = await journal.publishChallenges(stored, challenges, options);
    const judged = await Promise.all(
      challenges.map(async ({ authorization, http01 }) => {
        await authority.respond(http01.url, options);
        return authority.awaitAuthorization(authorization.url, options);
      }),
    );
    const refused = [...judged, ...authorizations.filter(({ status }) => status !== 'pending')].filter(
      ({ status }) => status !== 'valid',
    );
    if (refused.length === 0) return published;
    const reasons = refused.map(
      ({ identifier, status, error }) => `${identifier}: ${error ?? `authorization is ${status}`}`,
    );
    await journal.abandon(published, reasons.join('; '), options);
    throw new KacmeError('ERR_ACME_AUTHORIZATION', `the CA did not authorize ${reasons.join('; ')}`, {
      retry: 'later',
      remedy:
        'make sure that every name resolves to HAProxy and that HAProxy forwards /.well-known/acme-challenge/ on port 80 to kacme',
    });
  }

  async #backOff(
    spec: CertificateSpec,
    issuer: string,
    error: unknown,
    log: Logger,
    { mandate }: EffectOptions,
  ): Promise<void> {
    const { store, clock, random } = this.#deps;
    const options = { signal: AbortSignal.timeout(5_000), mandate };
    const key = backoffRecord.key(spec.name, issuer);
    const held = await loadRecord(store, backoffRecord, [spec.name, issuer], options);
    const failures = (held?.value.failures ?? 0) + 1;
    const now = clock.now();
    const notBefore = backoffUntil(failures, now, random.uniform(), notBeforeOf(error));
    const lastFailure = reportError(error);
    await store.transact(
      {
        conditions: [{ key, revision: held?.revision ?? 0 }],
        puts: [
          {
            key,
            value: backoffRecord.serialize({
              failures,
              lastFailure,
              at: now.toISOString(),
              notBefore: notBefore.toISOString(),
            }),
          },
        ],
        deletes: [],
      },
      options,
    );
    log.error({ err: error, failures, notBefore }, 'issuance failed');
  }
}

/** The CA's own Retry-After, where an error carries one (RFC 8555 section 6.6). */
function notBeforeOf(error: unknown): Date | undefined {
  if (error instanceof KacmeError && 'notBefore' in error && error.notBefore instanceof Date)
    return error.notBefore;
  return undefined;
}

function requireHttp01(authorization: Authorization): NonNullable<Authorization['http01']> {
  if (authorization.http01 !== undefined) return authorization.http01;
  throw new KacmeError(
    'ERR_ACME_AUTHORIZATION',
    `the CA offers no http-01 challenge for ${authorization.identifier} (${authorization.url})`,
    {
      retry: 'never',
      remedy: 'kacme validates by http-01 only: choose another issuer or leave this identifier out',
    },
  );
}

/** A download is believed only when it fits the key, covers every identifier and is valid now. */
function requireUsable(spec: CertificateSpec, chainPem: string, keyPem: string, now: Date): void {
  const unusable = (why: string) =>
    new KacmeError(
      'ERR_CERTIFICATE_UNUSABLE',
      `the certificate that the CA issued for ${spec.name} is not usable: ${why}`,
      {
        retry: 'later',
        remedy: 'the bundle in use stays; if it happens again, ask the CA or name another issuer',
      },
    );
  const content = readBundlePem(renderBundlePem(chainPem, keyPem));
  if (content.state === 'broken') throw unusable(content.reason);
  const [leaf] = certificatesIn(chainPem);
  if (leaf === undefined) throw unusable('it is empty');
  const facts = factsOf(leaf);
  const missing = spec.identifiers.filter((identifier) => !facts.identifiers.includes(identifier));
  if (missing.length > 0) throw unusable(`it does not cover ${missing.join(', ')}`);
  if (now >= facts.notAfter) throw unusable(`it expired at ${facts.notAfter.toISOString()}`);
}
