import type { LoadedCertificate } from '../domain/observation.ts';
import { readBundlePem } from '../domain/x509.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { CertificateTransaction, type NewCertificate } from './certificate-transaction.ts';
import type { UndoOptions } from './checkpoint.ts';
import type { MemoryChange } from './memory-change.ts';
import { runtimeOf } from './observe.ts';
import type { RuntimeApi, RuntimeView } from './runtime-api.ts';

/** The change of what HAProxy has in memory under one path: one transaction, read back, and its way back. */
export class MemorySwap implements MemoryChange {
  readonly #new: NewCertificate;
  readonly #transaction: CertificateTransaction;
  #before: RuntimeView | undefined;
  #reached: 'looked' | 'set' | 'committed' = 'looked';
  /** After an undo: HAProxy still has the new bundle, since nobody holds the previous one. */
  keepsNew = false;

  constructor(certificate: NewCertificate) {
    this.#new = certificate;
    this.#transaction = new CertificateTransaction(certificate);
  }

  get loadedBefore(): LoadedCertificate | undefined {
    return this.#before?.loaded.get(this.#new.path);
  }

  get pidBefore(): number | undefined {
    return this.#before?.pid;
  }

  async look(options: EffectOptions): Promise<void> {
    const { view, path } = this.#new;
    const seen = await runtimeOf(view).look([path], options);
    this.#before = seen;
    if (seen.loaded.get(path) === undefined) {
      throw this.#transaction.error('ERR_HAPROXY_REFUSED', {
        reason: 'HAProxy has no certificate loaded under this path',
        retry: 'never',
        remedy: 'name this path in a crt argument of haproxy.cfg and reload HAProxy',
      });
    }
    await this.#transaction.assertPossible(seen, options);
  }

  async stage(options: EffectOptions): Promise<void> {
    this.#reached = 'set';
    await this.#transaction.set(this.#before?.bufferBytes ?? 0, options);
  }

  async commit(options: EffectOptions): Promise<void> {
    this.#reached = 'committed';
    await this.#transaction.commit(options);
  }

  /** Aborts the transaction if it is this change's own, and swaps the previous bundle back if this one's was committed. */
  async undo({ session, ...options }: UndoOptions, heldPems: readonly string[]): Promise<string | undefined> {
    if (this.#reached === 'looked') return undefined;
    const { view, path } = this.#new;
    const runtime = runtimeOf({ ...view, session });
    const now = await runtime.look([path], options);
    const done = [await this.#transaction.abortOwn(runtime, now, options)];
    const loaded = now.loaded.get(path)?.fingerprint1;
    const before = this.loadedBefore?.fingerprint1;
    if (this.#reached === 'committed' && loaded !== undefined && before !== undefined && loaded !== before) {
      await this.#swapBack(runtime, now.bufferBytes, before, heldPems, options);
      done.push('HAProxy has the previous bundle in memory again');
    }
    return done.filter((one) => one !== undefined).join(', ') || undefined;
  }

  async #swapBack(
    runtime: RuntimeApi,
    bufferBytes: number,
    before: string,
    heldPems: readonly string[],
    options: EffectOptions,
  ): Promise<void> {
    const { path } = this.#new;
    const failed = (reason: string) =>
      this.#transaction.error('ERR_HAPROXY_REFUSED', { reason, retry: 'later', remedy: undefined });
    const previous = heldPems.find((pem) => {
      const judged = readBundlePem(pem);
      return judged.state === 'loadable' && judged.facts.fingerprint1 === before;
    });
    if (previous === undefined) {
      this.keepsNew = true;
      throw failed(
        `it cannot be restored: HAProxy had SHA-1 ${before} in memory, which was in no file on the host`,
      );
    }
    await runtime.setCertificate(path, previous, { bufferBytes, ...options });
    const loaded = await runtime.commit(path, options);
    if (loaded?.fingerprint1 !== before) throw failed('HAProxy did not take the previous bundle back');
  }
}
