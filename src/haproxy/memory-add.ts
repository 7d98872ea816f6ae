import type { LoadedCertificate } from '../domain/observation.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { CertificateTransaction, type NewCertificate } from './certificate-transaction.ts';
import type { UndoOptions } from './checkpoint.ts';
import type { MemoryChange } from './memory-change.ts';
import { runtimeOf } from './observe.ts';
import type { RuntimeView } from './runtime-api.ts';

/** A certificate that no crt-list of the running HAProxy names yet: made, filled, and listed (management.txt 9.3). */
export class MemoryAdd implements MemoryChange {
  readonly #new: NewCertificate;
  /** The name HAProxy knows the list by. */
  readonly #list: string;
  readonly #transaction: CertificateTransaction;
  #before: RuntimeView | undefined;
  #reached: 'looked' | 'made' | 'listed' = 'looked';
  readonly keepsNew = false;

  constructor(certificate: NewCertificate, list: string) {
    this.#new = certificate;
    this.#list = list;
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
    const runtime = runtimeOf(view);
    const [seen, listed] = [await runtime.look([path], options), await runtime.crtList(this.#list, options)];
    this.#before = seen;
    if (listed === undefined) {
      throw this.#transaction.error('ERR_HAPROXY_REFUSED', {
        reason: `HAProxy knows no crt-list ${this.#list}`,
        retry: 'never',
        remedy: `name it in haproxy.cfg (bind ... ssl crt-list ${this.#list}) and reload HAProxy`,
      });
    }
    // A second line would keep the path from ever being taken off again by its name.
    if (listed.includes(path)) {
      throw this.#transaction.error('ERR_HAPROXY_BUSY', {
        reason: `HAProxy lists it in ${this.#list} by now`,
        retry: 'later',
        remedy: undefined,
      });
    }
    if (this.#fills) await this.#transaction.assertPossible(seen, options);
  }

  async stage(options: EffectOptions): Promise<void> {
    const { view, path } = this.#new;
    this.#reached = 'made';
    if (this.#before?.known.includes(path) === false) await runtimeOf(view).newCertificate(path, options);
    if (this.#fills) await this.#transaction.set(this.#before?.bufferBytes ?? 0, options);
  }

  async commit(options: EffectOptions): Promise<void> {
    const { view, path } = this.#new;
    if (this.#fills) await this.#transaction.commit(options);
    this.#reached = 'listed';
    await runtimeOf(view).addToList(this.#list, path, options);
  }

  /** Takes it off the list again, and out of memory unless it had been there. */
  async undo({ session, ...options }: UndoOptions): Promise<string | undefined> {
    if (this.#reached === 'looked') return undefined;
    const { view, path } = this.#new;
    const runtime = runtimeOf({ ...view, session });
    const now = await runtime.look([path], options);
    const done = [await this.#transaction.abortOwn(runtime, now, options)];
    if (this.#reached === 'listed' && (await runtime.crtList(this.#list, options))?.includes(path)) {
      await runtime.deleteFromList(this.#list, path, options);
      done.push(`HAProxy does not list it in ${this.#list} any more`);
    }
    if (this.loadedBefore === undefined && now.known.includes(path)) {
      await runtime.deleteCertificate(path, options);
      done.push('HAProxy has it in memory no more');
    }
    return done.filter((one) => one !== undefined).join(', ') || undefined;
  }

  /** Whether its content has to be given to HAProxy, or is there already and only not listed. */
  get #fills(): boolean {
    return this.loadedBefore?.fingerprint1 !== this.#new.fingerprint1;
  }
}
