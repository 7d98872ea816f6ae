import type { Logger } from 'pino';
import { HostError } from '../domain/host-error.ts';
import type { LoadedCertificate } from '../domain/observation.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { UndoOptions } from './checkpoint.ts';
import type { MemoryChange } from './memory-change.ts';
import { type HostView, runtimeOf } from './observe.ts';
import { HaproxyReload, onceBack, type ReloadContext, settled } from './reload.ts';
import type { RuntimeView } from './runtime-api.ts';

export interface MemoryReloadOptions extends ReloadContext {
  readonly log: Logger;
  /** `DeploymentSpec.path` */
  readonly path: string;
  /** SHA-1 of the new leaf: HAProxy tells no other. */
  readonly fingerprint1: string;
}

/** HAProxy reads the file anew: for what cannot be given to the running process. */
export class MemoryReload implements MemoryChange {
  readonly #options: MemoryReloadOptions;
  readonly #reload: HaproxyReload;
  #before: RuntimeView | undefined;
  #asked = false;

  constructor(options: MemoryReloadOptions) {
    this.#options = options;
    this.#reload = new HaproxyReload(options);
  }

  get loadedBefore(): LoadedCertificate | undefined {
    return this.#before?.loaded.get(this.#options.path);
  }

  get pidBefore(): number | undefined {
    return this.#before?.pid;
  }

  /** HAProxy had nothing under the path: the file, which may be the first, is of use to its next start. */
  get keepsNew(): boolean {
    return this.loadedBefore === undefined;
  }

  async look(options: EffectOptions): Promise<void> {
    this.#before = await this.#look(this.#options.view, options);
  }

  async stage(): Promise<void> {}

  /** The new file is in place: what is validated is what will be loaded. */
  async commit(options: EffectOptions): Promise<void> {
    const { view, fingerprint1, log, path } = this.#options;
    await this.#reload.validate(options);
    this.#asked = true;
    const workers = await this.#reload.reload(options);
    log.info({ path, workers }, 'HAProxy reloaded');
    const loaded = await this.#untilLoaded(view, fingerprint1, options);
    if (loaded === fingerprint1) return;
    const seen = loaded === undefined ? 'nothing' : `SHA-1 ${loaded}`;
    throw this.#error(
      `HAProxy was reloaded, and has ${seen} loaded from ${path}, not ${fingerprint1}`,
      loaded === undefined
        ? 'name this path, letter for letter, in a crt argument of haproxy.cfg'
        : 'see that file and path of the deployment are the same file for HAProxy',
    );
  }

  /** Called when the files are back. */
  async undo({ session, ...options }: UndoOptions): Promise<string | undefined> {
    if (!this.#asked) return undefined;
    const view = { ...this.#options.view, session };
    const before = this.loadedBefore?.fingerprint1;
    const now = (await this.#loaded(view, options))?.fingerprint1;
    if (now === before) return 'HAProxy has in memory what it had before';
    await new HaproxyReload({ ...this.#options, view }).reload(options);
    if ((await this.#untilLoaded(view, before, options)) === before)
      return 'HAProxy was reloaded again, with what it had before';
    throw this.#error('HAProxy was reloaded again, but has not what it had before', undefined);
  }

  async #untilLoaded(
    view: HostView,
    wanted: string | undefined,
    options: EffectOptions,
  ): Promise<string | undefined> {
    const look = async () => (await this.#loaded(view, options))?.fingerprint1;
    return settled(view, look, (loaded) => loaded === wanted, options);
  }

  async #loaded(view: HostView, options: { signal: AbortSignal }): Promise<LoadedCertificate | undefined> {
    return (await this.#look(view, options)).loaded.get(this.#options.path);
  }

  #look(view: HostView, { signal }: { signal: AbortSignal }): Promise<RuntimeView> {
    const look = () => runtimeOf(view).look([this.#options.path], { signal });
    return onceBack(view, look, { signal });
  }

  #error(reason: string, remedy: string | undefined): HostError {
    const { view, path } = this.#options;
    const step = `load ${path} by a reload`;
    return new HostError('ERR_HAPROXY_RELOAD', { host: view.label, step, reason, retry: 'later', remedy });
  }
}
