import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { type BackoffState, backoffUntil } from '../domain/backoff.ts';
import { KacmeError, reportError } from '../domain/errors.ts';
import { isLocal, judgeFailure } from '../domain/failure.ts';
import type { CertificateSpec, IssuerSpec } from '../domain/model.ts';
import { RateLimitNearError } from '../domain/rate-limit-error.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { type BackoffRecord, backoffRecord, loadRecord } from './records.ts';
import { notBeforeOf } from './retry-after.ts';

/** The failure is written although the work it belongs to is cancelled. */
const WRITTEN_WITHIN_MS = 5_000;

/** What a failure led to, for the log. */
export interface Noted extends Pick<BackoffRecord, 'failures' | 'notBefore'> {
  readonly permanent: boolean;
}

type BackoffsDeps = Pick<AppDeps, 'store' | 'clock' | 'random'>;

/** The failed attempts of each certificate at each issuer, in the store: they outlive the process. */
export class Backoffs {
  readonly #issuers: Readonly<Record<string, IssuerSpec>>;
  readonly #bundles: Bundles;
  readonly #deps: BackoffsDeps;

  constructor(issuers: Readonly<Record<string, IssuerSpec>>, bundles: Bundles, deps: BackoffsDeps) {
    this.#issuers = issuers;
    this.#bundles = bundles;
    this.#deps = deps;
  }

  /**
   * The failures of a certificate as it is configured now, at its issuers and where it is rehearsed: those of another
   * request say nothing about this one.
   */
  async of(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<ReadonlyMap<string, BackoffRecord>> {
    const asked = spec.issuers.flatMap((issuer) => [issuer, this.#issuers[issuer]?.stagingFirst ?? issuer]);
    const found = await Promise.all(
      [...new Set(asked)].map(async (issuer) => {
        const record = await this.#load(spec, issuer, options);
        return record === undefined ? [] : [[issuer, record.value] as const];
      }),
    );
    return new Map(found.flat());
  }

  /** Counts a failed attempt. Resolves to nothing when it cannot be stored, which is logged. */
  async note(
    spec: CertificateSpec,
    issuer: string,
    error: unknown,
    log: Logger,
    { mandate }: EffectOptions,
  ): Promise<Noted | undefined> {
    const { store, clock } = this.#deps;
    const options = { signal: AbortSignal.timeout(WRITTEN_WITHIN_MS), mandate };
    try {
      const key = backoffRecord.key(spec.name, issuer);
      const stored = await loadRecord(store, backoffRecord, [spec.name, issuer], options);
      const held = await this.#load(spec, issuer, options);
      const until = await this.#next(spec, held?.value.failures ?? 0, error, options);
      const record: BackoffRecord = {
        ...until,
        lastFailure: reportError(error),
        at: clock.now().toISOString(),
        request: this.#fingerprint(spec, issuer),
      };
      await store.transact(
        {
          conditions: [{ key, revision: stored?.revision ?? 0 }],
          puts: [{ key, value: backoffRecord.serialize(record) }],
          deletes: [],
        },
        options,
      );
      return { failures: until.failures, notBefore: until.notBefore, permanent: until.verdict.permanent };
    } catch (storeError) {
      log.error({ err: storeError }, 'back-off cannot be stored');
      return undefined;
    }
  }

  async #next(
    spec: CertificateSpec,
    before: number,
    error: unknown,
    options: { signal: AbortSignal },
  ): Promise<Pick<BackoffRecord, 'failures' | 'notBefore' | 'verdict'>> {
    const report = reportError(error);
    const verdict = judgeFailure({
      ...report,
      problems: error instanceof KacmeError ? error.problems : [],
    });
    // To wait for a limit is no failure: it does not lengthen the wait, and the moment is known.
    if (error instanceof RateLimitNearError)
      return { failures: Math.max(1, before), notBefore: error.notBefore.toISOString(), verdict };
    const { clock, random } = this.#deps;
    const failures = before + 1;
    const until = backoffUntil(failures, clock.now(), random.uniform(), {
      notBefore: notBeforeOf(error),
      heldUntil: await this.#trustedUntil(spec, options),
      permanent: verdict.permanent,
      local: isLocal(report.code),
    });
    return { failures, notBefore: until.toISOString(), verdict };
  }

  async #load(spec: CertificateSpec, issuer: string, options: { signal: AbortSignal }) {
    const held = await loadRecord(this.#deps.store, backoffRecord, [spec.name, issuer], options);
    const request = held?.value.request;
    return request === undefined || request === this.#fingerprint(spec, issuer) ? held : undefined;
  }

  /** When the certificate expires that clients trust now; a self-signed one is none. */
  async #trustedUntil(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<Date | undefined> {
    const held = await this.#bundles.active(spec.name, options);
    return held === undefined || held.origin === 'self-signed' ? undefined : new Date(held.notAfter);
  }

  /** Of everything in the configuration that the outcome of a request depends on. */
  #fingerprint(spec: CertificateSpec, issuer: string): string {
    const { name: _name, issuers: _issuers, ...certificate } = spec;
    const identifiers = [...spec.identifiers].sort();
    const asked = { ...certificate, identifiers, issuer: this.#issuers[issuer] };
    return createHash('sha256').update(JSON.stringify(asked, sortKeys)).digest('hex');
  }
}

/** The same text whatever the order in which the keys were written. */
function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function backoffState({ failures, notBefore, verdict, lastFailure }: BackoffRecord): BackoffState {
  const { code, remedy } = lastFailure;
  return { failures, notBefore: new Date(notBefore), verdict, remedy, local: isLocal(code) };
}
