import { HostError, type HostErrorDetails } from '../domain/host-error.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { type HostView, runtimeOf } from './observe.ts';
import type { RuntimeApi, RuntimeView } from './runtime-api.ts';
import type { TransactionWatch } from './transaction-watch.ts';

export interface NewCertificate {
  readonly view: HostView;
  readonly watch: TransactionWatch;
  /** `DeploymentSpec.path` */
  readonly path: string;
  readonly pem: string;
  /** SHA-1 of the new leaf: HAProxy tells no other. */
  readonly fingerprint1: string;
}

/** The one transaction of a HAProxy process, with one new certificate: opened, committed, read back, or aborted. */
export class CertificateTransaction {
  readonly #new: NewCertificate;
  readonly #runtime: RuntimeApi;

  constructor(certificate: NewCertificate) {
    this.#new = certificate;
    this.#runtime = runtimeOf(certificate.view);
  }

  /**
   * Throws what keeps it from succeeding, before anything is touched: a bundle that does not fit, another client's
   * transaction. HAProxy has one for the whole process: a foreign one must end before ours begins.
   */
  async assertPossible({ bufferBytes, pending }: RuntimeView, options: EffectOptions): Promise<void> {
    const { path, pem, watch, fingerprint1 } = this.#new;
    this.#runtime.assertCertificateFits(path, pem, bufferBytes);
    const sighting = await watch.look(this.#runtime, pending, options);
    if (sighting === undefined) return;
    if (sighting.fingerprint1 === fingerprint1 || sighting.abandoned) {
      await this.#runtime.abort(sighting.path, options);
      return;
    }
    throw this.error('ERR_HAPROXY_BUSY', {
      reason: `another client has a certificate transaction pending for ${sighting.path}`,
      retry: 'later',
      remedy: `kacme aborts it when it is still there, unchanged, at the next look; by hand: abort ssl cert ${sighting.path}`,
    });
  }

  async set(bufferBytes: number, options: EffectOptions): Promise<void> {
    await this.#runtime.setCertificate(this.#new.path, this.#new.pem, { bufferBytes, ...options });
  }

  /** "Success!" alone is not believed: 2.6 says it also when another file's bundle was committed. */
  async commit(options: EffectOptions): Promise<void> {
    const { path, fingerprint1 } = this.#new;
    const loaded = await this.#runtime.commit(path, options);
    if (loaded?.fingerprint1 === fingerprint1) return;
    const seen = loaded === undefined ? 'nothing' : `SHA-1 ${loaded.fingerprint1}`;
    throw this.error('ERR_HAPROXY_REFUSED', {
      reason: `HAProxy said "Success!" but has ${seen} in memory, not ${fingerprint1}`,
      retry: 'later',
      remedy: 'let only kacme change certificates of this HAProxy',
    });
  }

  /** Ends the pending transaction if it is this one. `runtime` is the way in by now. */
  async abortOwn(
    runtime: RuntimeApi,
    { pending }: RuntimeView,
    options: EffectOptions,
  ): Promise<string | undefined> {
    if (pending === undefined) return undefined;
    const held = await runtime.showPending(pending, options);
    const own = held?.fingerprint1 === this.#new.fingerprint1;
    return own && (await runtime.abort(pending, options)) ? "kacme's transaction was aborted" : undefined;
  }

  error(
    code: 'ERR_HAPROXY_REFUSED' | 'ERR_HAPROXY_BUSY',
    details: Pick<HostErrorDetails, 'reason' | 'retry' | 'remedy'>,
  ): HostError {
    const { view, path } = this.#new;
    return new HostError(code, { host: view.label, step: `swap certificate ${path}`, ...details });
  }
}
