import { createHash } from 'node:crypto';
import type { CertificateSpec } from '../domain/model.ts';
import type { DesiredPlace } from '../domain/place-decision.ts';
import { renderBundlePem } from '../domain/x509.ts';
import { activeBundle, leafFacts } from './bundle-history.ts';
import type { AppDeps } from './deps.ts';
import type { OwnCertificates } from './own-certificates.ts';
import { certificateRecord, loadRecord } from './records.ts';
import { SharedLook } from './shared-look.ts';
import { unlessAborted } from './single-flight.ts';

/** What a certificate's deployments should hold, and the PEM to install. */
export interface Desired {
  readonly certificate: string;
  readonly place: DesiredPlace;
  readonly pem: string;
}

/** What was found out a moment ago. */
interface Fresh {
  readonly desired: Desired;
  /** Monotonic. */
  readonly atMs: number;
  readonly writes: number;
}

/** A look of many: whoever is cancelled stops waiting for it. */
const NEVER = { signal: new AbortController().signal };

/** How long an answer serves further hosts, unless a bundle is written: nobody else writes any while this process may. */
const FRESH_MS = 1_000;

type DesiredDeps = Pick<AppDeps, 'store' | 'clock'> & { readonly own: OwnCertificates };

/** The desired state of every deployment. All hosts ask for it at the same moment. */
export class DesiredBundles {
  readonly #deps: DesiredDeps;
  readonly #desired = new Map<string, { readonly revision: number; readonly desired: Desired }>();
  readonly #looks = new WeakMap<CertificateSpec, SharedLook<Desired | undefined>>();
  readonly #fresh = new WeakMap<CertificateSpec, Fresh>();
  /** Begun and ended ones. */
  #writes = 0;

  constructor(deps: DesiredDeps) {
    this.#deps = deps;
  }

  /** Undefined when the certificate has no bundle yet. */
  async of(spec: CertificateSpec, { signal }: { signal: AbortSignal }): Promise<Desired | undefined> {
    signal.throwIfAborted();
    const fresh = this.#fresh.get(spec);
    const ageMs = this.#deps.clock.monotonicMs() - (fresh?.atMs ?? 0);
    if (fresh?.writes === this.#writes && ageMs < FRESH_MS) return fresh.desired;
    const look = this.#looks.get(spec) ?? new SharedLook(() => this.#lookUpFresh(spec, NEVER));
    this.#looks.set(spec, look);
    return unlessAborted(look.ask(), signal);
  }

  /** Nothing that was found out before the end of `write` serves anybody after it. */
  async changing(write: () => Promise<unknown>): Promise<void> {
    this.#writes += 1;
    try {
      await write();
    } finally {
      this.#writes += 1;
    }
  }

  /** A look that a write has overlapped may have seen what was before it. */
  async #lookUpFresh(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<Desired | undefined> {
    const [atMs, writes] = [this.#deps.clock.monotonicMs(), this.#writes];
    const desired = await this.#lookUp(spec, options);
    if (desired !== undefined) this.#fresh.set(spec, { desired, atMs, writes });
    return desired;
  }

  async #lookUp(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<Desired | undefined> {
    const { store, own } = this.#deps;
    const record = await loadRecord(store, certificateRecord, spec.name, options);
    const cached = this.#desired.get(spec.name);
    if (record !== undefined && cached?.revision === record.revision) return cached.desired;
    const bundle = await activeBundle(store, record?.value, spec.name, options);
    if (record === undefined || bundle === undefined) return undefined;
    const pem = renderBundlePem(bundle.chainPem, bundle.keyPem);
    const desired: Desired = {
      certificate: spec.name,
      pem,
      place: {
        generation: record.value.generation,
        facts: leafFacts(bundle.chainPem),
        pemSha256: createHash('sha256').update(pem).digest('hex'),
        pemBytes: Buffer.byteLength(pem),
        identifiers: spec.identifiers,
        history: await own.fingerprints(record.value, options),
        revoked: record.value.history.some(
          ({ bundle: id, state }) => id === bundle.id && state === 'revoked',
        ),
      },
    };
    this.#desired.set(spec.name, { revision: record.revision, desired });
    return desired;
  }
}
