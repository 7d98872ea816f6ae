import { HostError } from '../domain/host-error.ts';
import type { LoadedCertificate } from '../domain/observation.ts';
import { readBundlePem } from '../domain/x509.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { UndoOptions } from './checkpoint.ts';
import { type HostView, runtimeOf } from './observe.ts';
import type { RuntimeApi, RuntimeView } from './runtime-api.ts';
import type { TransactionWatch } from './transaction-watch.ts';

export interface MemorySwapOptions {
  readonly view: HostView;
  readonly watch: TransactionWatch;
  /** `DeploymentSpec.path` */
  readonly path: string;
  readonly pem: string;
  /** SHA-1 of the new leaf: HAProxy tells no other. */
  readonly fingerprint1: string;
}

/** The change of what HAProxy has in memory under one path: one transaction, read back, and its way back. */
export class MemorySwap {
  readonly #view: HostView;
  readonly #watch: TransactionWatch;
  readonly #path: string;
  readonly #pem: string;
  readonly #fingerprint1: string;
  readonly #runtime: RuntimeApi;
  #before: RuntimeView | undefined;
  #reached: 'looked' | 'set' | 'committed' = 'looked';
  /** After an undo: HAProxy still has the new bundle, since nobody holds the previous one. */
  keepsNew = false;

  constructor({ view, watch, path, pem, fingerprint1 }: MemorySwapOptions) {
    this.#view = view;
    this.#watch = watch;
    this.#path = path;
    this.#pem = pem;
    this.#fingerprint1 = fingerprint1;
    this.#runtime = runtimeOf(view);
  }

  get loadedBefore(): LoadedCertificate | undefined {
    return this.#before?.loaded.get(this.#path);
  }

  /** Throws, before anything is touched, when the swap could not succeed. */
  async look(options: EffectOptions): Promise<void> {
    const view = await this.#runtime.look([this.#path], options);
    this.#before = view;
    if (view.loaded.get(this.#path) === undefined) {
      throw this.#error('ERR_HAPROXY_REFUSED', 'HAProxy has no certificate loaded under this path', {
        retry: 'never',
        remedy: 'name this path in a crt argument of haproxy.cfg and reload HAProxy',
      });
    }
    this.#runtime.assertCertificateFits(this.#path, this.#pem, view.bufferBytes);
    await this.#clearPending(view.pending, options);
  }

  async set(options: EffectOptions): Promise<void> {
    this.#reached = 'set';
    const bufferBytes = this.#before?.bufferBytes ?? 0;
    await this.#runtime.setCertificate(this.#path, this.#pem, { bufferBytes, ...options });
  }

  /** "Success!" alone is not believed: 2.6 says it also when another file's bundle was committed. */
  async commit(options: EffectOptions): Promise<void> {
    this.#reached = 'committed';
    const loaded = await this.#runtime.commit(this.#path, options);
    if (loaded?.fingerprint1 === this.#fingerprint1) return;
    const seen = loaded === undefined ? 'nothing' : `SHA-1 ${loaded.fingerprint1}`;
    throw this.#error(
      'ERR_HAPROXY_REFUSED',
      `HAProxy said "Success!" but has ${seen} in memory, not ${this.#fingerprint1}`,
      { retry: 'later', remedy: 'let only kacme change certificates of this HAProxy' },
    );
  }

  /**
   * Aborts the transaction if it is this change's own, and swaps the previous bundle back if this one's was
   * committed. `heldPems` are the bundles found on the host before the change.
   */
  async undo({ session, ...options }: UndoOptions, heldPems: readonly string[]): Promise<string | undefined> {
    if (this.#reached === 'looked') return undefined;
    const runtime = runtimeOf({ ...this.#view, session });
    const done: string[] = [];
    const now = await runtime.look([this.#path], options);
    if (now.pending !== undefined) {
      const pending = await runtime.showPending(now.pending, options);
      if (pending?.fingerprint1 === this.#fingerprint1 && (await runtime.abort(now.pending, options))) {
        done.push("kacme's transaction was aborted");
      }
    }
    const loaded = now.loaded.get(this.#path)?.fingerprint1;
    const before = this.loadedBefore?.fingerprint1;
    if (this.#reached === 'committed' && loaded !== undefined && before !== undefined && loaded !== before) {
      await this.#swapBack(runtime, now.bufferBytes, before, heldPems, options);
      done.push('HAProxy has the previous bundle in memory again');
    }
    return done.length === 0 ? undefined : done.join(', ');
  }

  async #swapBack(
    runtime: RuntimeApi,
    bufferBytes: number,
    before: string,
    heldPems: readonly string[],
    options: EffectOptions,
  ): Promise<void> {
    const previous = heldPems.find((pem) => {
      const judged = readBundlePem(pem);
      return judged.state === 'loadable' && judged.facts.fingerprint1 === before;
    });
    if (previous === undefined) {
      this.keepsNew = true;
      throw this.#error(
        'ERR_HAPROXY_REFUSED',
        `it cannot be restored: HAProxy had SHA-1 ${before} in memory, which was in no file on the host`,
        { retry: 'later', remedy: undefined },
      );
    }
    await runtime.setCertificate(this.#path, previous, { bufferBytes, ...options });
    const loaded = await runtime.commit(this.#path, options);
    if (loaded?.fingerprint1 === before) return;
    throw this.#error('ERR_HAPROXY_REFUSED', 'HAProxy did not take the previous bundle back', {
      retry: 'later',
      remedy: undefined,
    });
  }

  /** HAProxy has one transaction for the whole process: a foreign one must end before ours begins. */
  async #clearPending(pending: string | undefined, options: EffectOptions): Promise<void> {
    const sighting = await this.#watch.look(this.#runtime, pending, options);
    if (sighting === undefined) return;
    const own = sighting.fingerprint1 === this.#fingerprint1;
    if (own || sighting.abandoned) {
      await this.#runtime.abort(sighting.path, options);
      return;
    }
    throw this.#error(
      'ERR_HAPROXY_BUSY',
      `another client has a certificate transaction pending for ${sighting.path}`,
      {
        retry: 'later',
        remedy: `kacme aborts it when it is still there, unchanged, at the next look; by hand: abort ssl cert ${sighting.path}`,
      },
    );
  }

  #error(
    code: 'ERR_HAPROXY_REFUSED' | 'ERR_HAPROXY_BUSY',
    reason: string,
    { retry, remedy }: { retry: 'later' | 'never'; remedy: string | undefined },
  ): HostError {
    return new HostError(code, {
      host: this.#view.label,
      step: `swap certificate ${this.#path}`,
      reason,
      retry,
      remedy,
    });
  }
}
