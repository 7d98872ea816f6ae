import { reportError } from '../domain/errors.ts';
import type { HeldBundle } from '../domain/renewal.ts';
import {
  decideCheck,
  describeRenewalTime,
  endsHold,
  followWindow,
  isPremature,
  lackWindow,
  missWindow,
  type RenewalInfoState,
  type RenewalTime,
  renewalTime,
} from '../domain/renewal-info.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { Authorities } from './authorities.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import {
  type BundleRecord,
  holdRecord,
  loadRecord,
  type RenewalInfoRecord,
  renewalInfoRecord,
} from './records.ts';
import { notBeforeOf } from './retry-after.ts';
import { RevokedBundles } from './revoked.ts';

/** The active bundle of a certificate, and when to renew it. */
export interface Renewable {
  readonly bundle: BundleRecord;
  readonly held: HeldBundle;
  /** What the CA said about it; undefined when it was not asked yet. */
  readonly state: RenewalInfoState | undefined;
  readonly time: RenewalTime;
  /** The CA's, about the window in force; undefined when it gave none or there is no window. */
  readonly explanationURL: string | undefined;
  /** When the CA is to be asked about it; past when that is due, undefined when it is not to be asked. */
  readonly nextCheckAt: Date | undefined;
}

/** What is known of one bundle. */
interface Known {
  readonly bundle: BundleRecord;
  /** Of the stored record, whichever bundle it is about; 0 when there is none. */
  readonly revision: number;
  readonly state: RenewalInfoState | undefined;
}

type RenewalInformationDeps = Pick<AppDeps, 'store' | 'clock' | 'random' | 'log'>;

/** What the CAs say about when to renew (ARI, RFC 9773), each certificate asked about when it is due and no sooner. */
export class RenewalInformation {
  readonly #authorities: Authorities;
  readonly #bundles: Bundles;
  readonly #deps: RenewalInformationDeps;

  constructor(authorities: Authorities, bundles: Bundles, deps: RenewalInformationDeps) {
    this.#authorities = authorities;
    this.#bundles = bundles;
    this.#deps = deps;
  }

  /** Undefined when the certificate has no bundle. */
  async of(certificate: string, options: { signal: AbortSignal }): Promise<Renewable | undefined> {
    const known = await this.#known(certificate, options);
    if (known === undefined) return undefined;
    const { bundle, state } = known;
    const notAfter = new Date(bundle.notAfter);
    const drawn = { notBefore: new Date(bundle.notBefore), notAfter, renewAt: new Date(bundle.renewAt) };
    const hold = await this.#heldUntil(bundle, options);
    const heldUntil = endsHold(state) ? undefined : hold;
    const time = renewalTime(state, drawn, heldUntil);
    const { identifiers, origin } = bundle;
    const basis = describeRenewalTime(time, state);
    return {
      bundle,
      held: {
        identifiers,
        origin,
        notAfter,
        renewAt: time.renewAt,
        basis,
        heldUntil,
        unfit: await this.#unfit(bundle, options),
      },
      state,
      time,
      explanationURL: state?.suggestion?.explanationURL,
      nextCheckAt: this.#nextCheckAt(known),
    };
  }

  /** Asks the CA when that is due. What goes wrong with the CA is logged, and only means to ask again later. */
  async check(certificate: string, options: EffectOptions): Promise<void> {
    const known = await this.#known(certificate, options);
    if (known === undefined) return;
    const { bundle, revision } = known;
    const nextCheckAt = this.#nextCheckAt(known);
    if (nextCheckAt === undefined || nextCheckAt > this.#deps.clock.now()) return;
    const state = await this.#ask(known, options);
    const key = renewalInfoRecord.key(certificate);
    const puts = [{ key, value: renewalInfoRecord.serialize(toRecord(bundle, state)) }];
    try {
      await this.#deps.store.transact({ conditions: [{ key, revision }], puts, deletes: [] }, options);
      if (hasChanged(known.state, state)) this.#tell(known, state);
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CONFLICT') throw error;
      // Somebody else asked meanwhile, or there is another bundle now.
      this.#deps.log.debug({ certificate, err: error }, 'renewal information is outdated');
    }
  }

  #tell({ bundle, state: before }: Known, { suggestion }: RenewalInfoState): void {
    const { certificate, issuer, certID } = bundle;
    this.#deps.log.info(
      { certificate, issuer, certID, ...suggestion, before: before?.suggestion?.window },
      'suggested window',
    );
  }

  async #known(certificate: string, options: { signal: AbortSignal }): Promise<Known | undefined> {
    const bundle = await this.#bundles.active(certificate, options);
    if (bundle === undefined) return undefined;
    const stored = await loadRecord(this.#deps.store, renewalInfoRecord, certificate, options);
    return { bundle, revision: stored?.revision ?? 0, state: stateAbout(bundle, stored?.value) };
  }

  async #heldUntil(bundle: BundleRecord, options: { signal: AbortSignal }): Promise<Date | undefined> {
    const hold = await loadRecord(this.#deps.store, holdRecord, bundle.certificate, options);
    return hold?.value.bundle === bundle.id ? new Date(hold.value.until) : undefined;
  }

  async #unfit(bundle: BundleRecord, options: { signal: AbortSignal }): Promise<string | undefined> {
    return (await RevokedBundles.load(this.#deps.store, options)).objectionTo(bundle);
  }

  #nextCheckAt({ bundle, state }: Known): Date | undefined {
    const { certID, issuer, notAfter } = bundle;
    if (certID === undefined || issuer === undefined || !this.#authorities.knows(issuer)) return undefined;
    const now = this.#deps.clock.now();
    const decision = decideCheck(state, { notAfter: new Date(notAfter) }, now);
    if (decision.action === 'never') return undefined;
    return decision.action === 'ask' ? now : decision.until;
  }

  /** Resolves to the state after the answer, or after the want of one. */
  async #ask({ bundle, state }: Known, options: EffectOptions): Promise<RenewalInfoState> {
    const { clock, random } = this.#deps;
    const { certificate, certID = '', issuer = '' } = bundle;
    const log = this.#deps.log.child({ certificate, issuer });
    try {
      const authority = await this.#authorities.connection(issuer, options);
      const answer = await authority.renewalInfo(certID, options);
      const now = clock.now();
      if (answer === undefined) {
        log.debug({ certID }, 'the CA offers no renewal information');
        return lackWindow(state, now);
      }
      const { suggestedWindow: window, explanationURL } = answer.info;
      if (isPremature(state, answer.info, { issuedAt: new Date(bundle.issuedAt) }, now)) {
        const reason = 'the certificate was issued only now: the CA is asked again before it is renewed';
        log.warn({ certID, window, explanationURL, reason }, 'suggested window not followed');
        return missWindow(state, now, random.uniform(), answer.retryAfter);
      }
      return followWindow(state, answer, now, random.uniform());
    } catch (error) {
      const failure = expectedFailure(error, options);
      const missed = missWindow(state, clock.now(), random.uniform(), notBeforeOf(failure));
      const { failures, nextCheckAt } = missed;
      // Once is enough: the renewal itself goes on by what was last heard.
      log[failures === 1 ? 'warn' : 'debug'](
        { certID, err: failure, failures, nextCheckAt },
        'renewal information cannot be had',
      );
      return missed;
    }
  }
}

/** What is known of `bundle`; undefined when the CA was not asked about it yet. */
export async function renewalInfoOf(
  store: StateStore,
  bundle: BundleRecord,
  options: { signal: AbortSignal },
): Promise<RenewalInfoState | undefined> {
  return stateAbout(bundle, (await loadRecord(store, renewalInfoRecord, bundle.certificate, options))?.value);
}

/** A record about a former bundle says nothing of this one. */
function stateAbout(
  { id }: BundleRecord,
  record: RenewalInfoRecord | undefined,
): RenewalInfoState | undefined {
  return record?.bundle === id ? fromRecord(record) : undefined;
}

function hasChanged(before: RenewalInfoState | undefined, after: RenewalInfoState): boolean {
  const [old, present] = [before?.suggestion, after.suggestion];
  return (
    old?.window.start.getTime() !== present?.window.start.getTime() ||
    old?.window.end.getTime() !== present?.window.end.getTime() ||
    old?.explanationURL !== present?.explanationURL
  );
}

function toRecord(
  { id }: BundleRecord,
  { suggestion, nextCheckAt, failures }: RenewalInfoState,
): RenewalInfoRecord {
  return {
    bundle: id,
    suggestion: suggestion && {
      window: { start: suggestion.window.start.toISOString(), end: suggestion.window.end.toISOString() },
      renewAt: suggestion.renewAt.toISOString(),
      checkedAt: suggestion.checkedAt.toISOString(),
      explanationURL: suggestion.explanationURL,
    },
    nextCheckAt: nextCheckAt.toISOString(),
    failures,
  };
}

function fromRecord({ suggestion, nextCheckAt, failures }: RenewalInfoRecord): RenewalInfoState {
  return {
    suggestion: suggestion && {
      window: { start: new Date(suggestion.window.start), end: new Date(suggestion.window.end) },
      renewAt: new Date(suggestion.renewAt),
      checkedAt: new Date(suggestion.checkedAt),
      explanationURL: suggestion.explanationURL,
    },
    nextCheckAt: new Date(nextCheckAt),
    failures,
  };
}
