import { backoffUntil } from '../domain/backoff.ts';
import { KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import {
  decideRevocation,
  findRevocationTarget,
  type RevokeRequest,
  type SuccessorPlace,
} from '../domain/revocation.ts';
import type { CertificateResult } from '../domain/status.ts';
import { publicKeyHash } from '../domain/x509.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Authorities } from './authorities.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { type BundleRecord, bundleRecord, loadRecord, type RevocationRecord } from './records.ts';
import { notBeforeOf } from './retry-after.ts';

/** A bundle that is to be revoked, and what was asked of it. */
export interface Revoking {
  readonly bundle: BundleRecord;
  readonly revocation: RevocationRecord;
  /** What was asked before, and is not done yet. */
  readonly before: RevocationRecord | undefined;
  /** Whether it is what hosts should hold. */
  readonly active: boolean;
}

/** What the CA says to an account that may not revoke a certificate; its key may all the same. */
const ACCOUNT_CANNOT: ReadonlySet<string> = new Set(['accountDoesNotExist', 'unauthorized']);

/** Revokes bundles (RFC 8555 section 7.6), at once or after their successors are on the hosts. */
export class Revocations {
  readonly #authorities: Authorities;
  readonly #bundles: Bundles;
  readonly #deps: AppDeps;

  constructor(authorities: Authorities, bundles: Bundles, deps: AppDeps) {
    this.#authorities = authorities;
    this.#bundles = bundles;
    this.#deps = deps;
  }

  /** Which bundle is meant. Nothing is stored or asked. Throws `ERR_NOTHING_TO_REVOKE`. */
  async find(
    spec: CertificateSpec,
    request: RevokeRequest,
    options: { signal: AbortSignal },
  ): Promise<Revoking> {
    const { fingerprint, reason, signedBy, replace } = request;
    const record = await this.#bundles.record(spec.name, options);
    const history = await this.#bundles.former(spec.name, options);
    const [begun] = replace ? await this.pending(spec.name, options) : [];
    const now = this.#deps.clock.now();
    const target = findRevocationTarget(
      history,
      record?.value.active,
      { fingerprint, pending: begun?.bundle.id },
      now,
    );
    if (target.action === 'refuse') throw nothingToRevoke(spec, target.reason);
    const bundle = await this.#load(spec.name, target.id, options);
    const stored = (await this.#bundles.revocations(spec.name, options)).get(target.id);
    const asked: RevocationRecord = {
      reason,
      signedBy,
      requestedAt: stored?.requestedAt ?? now.toISOString(),
      revokedAt: undefined,
      publicKey: publicKeyHash(bundle.keyPem),
      failures: 0,
      lastFailure: undefined,
      notBefore: undefined,
    };
    // What was asked for last counts, unless the CA has it in its books already.
    const revocation = stored?.revokedAt === undefined ? asked : stored;
    return { bundle, revocation, before: stored, active: record?.value.active === target.id };
  }

  /** Throws `ERR_NOTHING_TO_REVOKE` unless its CA can be asked. */
  assertAskable({ bundle, revocation }: Revoking): void {
    if (revocation.revokedAt === undefined) this.#issuerOf(bundle);
  }

  /** Stores the operator's wish: whatever happens then, the bundle is replaced, and revoked after that. */
  async announce({ bundle, revocation }: Revoking, options: EffectOptions): Promise<void> {
    await this.#bundles.putRevocation(bundle, revocation, options);
    const { certificate, id: fingerprint256 } = bundle;
    this.#deps.log.info({ certificate, fingerprint256, reason: revocation.reason }, 'revocation begun');
  }

  /** What is to be revoked and is not yet, the oldest wish first. */
  async pending(certificate: string, options: { signal: AbortSignal }): Promise<readonly Revoking[]> {
    const record = await this.#bundles.record(certificate, options);
    const waiting = [...(await this.#bundles.revocations(certificate, options))]
      .filter(([, { revokedAt }]) => revokedAt === undefined)
      .sort(([, a], [, b]) => a.requestedAt.localeCompare(b.requestedAt));
    const found: Revoking[] = [];
    for (const [id, revocation] of waiting) {
      const bundle = (await loadRecord(this.#deps.store, bundleRecord, [certificate, id], options))?.value;
      if (bundle !== undefined)
        found.push({ bundle, revocation, before: revocation, active: record?.value.active === id });
    }
    return found;
  }

  /** Revokes it if its successor is where it was. A refusal is stored, and the next attempt waits. */
  async conclude(
    revoking: Revoking,
    places: readonly SuccessorPlace[],
    options: EffectOptions,
  ): Promise<CertificateResult> {
    const { certificate } = revoking.bundle;
    const decision = decideRevocation(revoking.revocation.reason, places);
    if (decision.action === 'wait') {
      const reason = `${nameOf(revoking)} is not revoked yet: ${decision.reason}; a running kacme serve revokes it as soon as none does`;
      return { certificate, action: 'pending', reason, failure: undefined };
    }
    try {
      const { reason } = await this.revoke(revoking, options);
      return { certificate, action: 'revoked', reason: `${reason}; ${decision.reason}`, failure: undefined };
    } catch (error) {
      const failure = expectedFailure(error, options);
      await this.#putOff(revoking, failure, options);
      throw failure;
    }
  }

  /**
   * Revokes it whatever hosts hold. Stored before the CA is asked: where the answer is lost, it is replaced and asked for
   * again. What the CA refuses leaves everything as it was.
   */
  async revokeAtOnce(revoking: Revoking, options: EffectOptions): Promise<{ readonly reason: string }> {
    if (revoking.revocation.revokedAt === undefined) await this.announce(revoking, options);
    try {
      return await this.revoke(revoking, options);
    } catch (error) {
      const failure = expectedFailure(error, options);
      if (isRefusal(failure)) await this.#bundles.resetRevocation(revoking.bundle, revoking.before, options);
      throw failure;
    }
  }

  /** Asks the CA, then stores it. What the CA has revoked before counts as done, so this can be repeated. */
  async revoke(revoking: Revoking, options: EffectOptions): Promise<{ readonly reason: string }> {
    const { bundle, revocation } = revoking;
    const { certificate, id: fingerprint256 } = bundle;
    if (revocation.revokedAt !== undefined)
      return { reason: `${nameOf(revoking)} was revoked at ${revocation.revokedAt} (${revocation.reason})` };
    const issuer = this.#issuerOf(bundle);
    const { answer, signedBy } = await this.#authorities.using(
      issuer,
      () => this.#ask(issuer, revoking, options),
      options,
    );
    const revoked = { ...revocation, signedBy, revokedAt: this.#deps.clock.now().toISOString() };
    await this.#bundles.putRevocation(bundle, revoked, options);
    const how = signedBy === 'account' ? 'by the account' : "with the certificate's key";
    const reason = `${nameOf(revoking)} ${answer} (${revocation.reason}), asked for ${how}`;
    this.#deps.log.info({ certificate, fingerprint256, issuer, reason }, 'certificate revoked');
    return { reason };
  }

  async #ask(
    issuer: string,
    { bundle, revocation: { reason, signedBy } }: Revoking,
    options: EffectOptions,
  ): Promise<{
    readonly answer: Awaited<ReturnType<CertificateAuthority['revoke']>>;
    readonly signedBy: RevocationRecord['signedBy'];
  }> {
    const authority = await this.#authorities.connection(issuer, options);
    const { chainPem, keyPem } = bundle;
    if (signedBy === 'account') {
      try {
        return { answer: await authority.revoke({ chainPem, reason }, options), signedBy };
      } catch (error) {
        const cannot = error instanceof KacmeError && error.problems.some((type) => ACCOUNT_CANNOT.has(type));
        if (!cannot) throw error;
        this.#deps.log.info({ issuer, err: error }, "account cannot revoke: the certificate's key does");
      }
    }
    const answer = await authority.revoke({ chainPem, reason, keyPem }, options);
    return { answer, signedBy: 'certificate-key' };
  }

  #issuerOf({ certificate, id, issuer }: BundleRecord): string {
    if (issuer !== undefined && this.#authorities.knows(issuer)) return issuer;
    const [only, ...others] = this.#authorities.names();
    // It was adopted from a host, where nothing tells: the CA says so if it is not its own.
    if (issuer === undefined && only !== undefined && others.length === 0) return only;
    const attempted = `cannot revoke ${certificate}: ${id.slice(0, 16)} was`;
    throw issuer === undefined
      ? new KacmeError(
          'ERR_NOTHING_TO_REVOKE',
          `${attempted} adopted from a host, and which of ${[only, ...others].join(', ')} issued it is not known`,
          {
            retry: 'never',
            remedy: `have its CA revoke it by other means; kacme renew ${certificate} --force replaces it`,
          },
        )
      : new KacmeError('ERR_NOTHING_TO_REVOKE', `${attempted} issued by ${issuer}, which is not configured`, {
          retry: 'never',
          remedy: 'configure that issuer again; no certificate needs to use it',
        });
  }

  async #load(certificate: string, id: string, options: { signal: AbortSignal }): Promise<BundleRecord> {
    const held = await loadRecord(this.#deps.store, bundleRecord, [certificate, id], options);
    if (held === undefined) throw new RangeError('only a bundle that is held is revoked');
    return held.value;
  }

  async #putOff({ bundle, revocation }: Revoking, error: KacmeError, options: EffectOptions): Promise<void> {
    const { clock, random, log } = this.#deps;
    const failures = revocation.failures + 1;
    const permanent = error.retry === 'never';
    const until = backoffUntil(failures, clock.now(), random.uniform(), {
      notBefore: notBeforeOf(error),
      permanent,
    });
    const notBefore = until.toISOString();
    const put = { ...revocation, failures, lastFailure: reportError(error), notBefore };
    await this.#bundles.putRevocation(bundle, put, options);
    log.error({ certificate: bundle.certificate, err: error, failures, notBefore }, 'revocation failed');
  }
}

/** The CA has understood, and will not. */
const isRefusal = ({ code, problems }: KacmeError): boolean =>
  code === 'ERR_ACME_PROBLEM' && !problems.includes('serverInternal');

const nameOf = ({ bundle }: Revoking): string => bundle.id.slice(0, 16);

function nothingToRevoke({ name }: CertificateSpec, reason: string): KacmeError {
  return new KacmeError('ERR_NOTHING_TO_REVOKE', `cannot revoke ${name}: ${reason}`, {
    retry: 'never',
    remedy:
      'see `kacme status --json` for the fingerprint of what is held; name another one with --fingerprint',
  });
}
