import type { CertificateSpec, IssuerSpec } from '../domain/model.ts';
import type { Transaction } from '../ports/state-store.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { loadRecord, rehearsalRecord } from './records.ts';

/**
 * Orders at another CA, without consequences, before an issuer is asked for the first time: what is set up wrong costs
 * no limit of the real one (`stagingFirst`).
 */
export class Rehearsals {
  readonly #issuers: Readonly<Record<string, IssuerSpec>>;
  readonly #bundles: Bundles;
  readonly #deps: Pick<AppDeps, 'store' | 'clock'>;

  constructor(
    issuers: Readonly<Record<string, IssuerSpec>>,
    bundles: Bundles,
    deps: Pick<AppDeps, 'store' | 'clock'>,
  ) {
    this.#issuers = issuers;
    this.#bundles = bundles;
    this.#deps = deps;
  }

  /**
   * The issuer that must have issued first; undefined when none must: `issuer` has proven that it issues for these
   * names by the certificate in use, or the rehearsal by its record.
   */
  async stagingFor(
    spec: CertificateSpec,
    issuer: string,
    options: { signal: AbortSignal },
  ): Promise<string | undefined> {
    const staging = this.#issuers[issuer]?.stagingFirst;
    if (staging === undefined) return undefined;
    const held = await this.#bundles.active(spec.name, options);
    if (held?.issuer === issuer && covers(held, spec)) return undefined;
    const rehearsed = await loadRecord(this.#deps.store, rehearsalRecord, [spec.name, issuer], options);
    const proven = rehearsed?.value.staging === staging && covers(rehearsed.value, spec);
    return proven ? undefined : staging;
  }

  /** What to store of a rehearsal that succeeded; it takes the place of one for other names. */
  succeeded(spec: CertificateSpec, issuer: string, staging: string): Transaction['puts'][number] {
    const at = this.#deps.clock.now().toISOString();
    const value = rehearsalRecord.serialize({ staging, identifiers: [...spec.identifiers], at });
    return { key: rehearsalRecord.key(spec.name, issuer), value };
  }
}

/** What the rehearsal orders: its CA has roots of other names, and a key that is kept is kept from it. */
export const rehearsalOf = (spec: CertificateSpec): CertificateSpec => ({
  ...spec,
  preferredChain: undefined,
  reuseKey: false,
});

const covers = (proof: { readonly identifiers: readonly string[] }, spec: CertificateSpec): boolean =>
  spec.identifiers.every((identifier) => proof.identifiers.includes(identifier));
