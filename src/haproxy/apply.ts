import type { Logger } from 'pino';
import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import { readBundlePem } from '../domain/x509.ts';
import type { AppliedChange, HostChange, Verification } from '../ports/haproxy-host.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { Checkpoint, type Unwound } from './checkpoint.ts';
import { CrtListFile } from './crt-list-file.ts';
import type { FileMemory } from './file-memory.ts';
import { FileReplacement } from './file-replacement.ts';
import { MemoryAdd } from './memory-add.ts';
import type { MemoryChange } from './memory-change.ts';
import { MemoryReload } from './memory-reload.ts';
import { MemorySwap } from './memory-swap.ts';
import { type ReloadContext, settled } from './reload.ts';
import type { TransactionWatch } from './transaction-watch.ts';
import { verifyHandshakes } from './verify.ts';

/** Undoing takes a few round trips, and a connection when the old one was lost. */
const UNDO_WITHIN_MS = 15_000;

export interface ChangeContext extends ReloadContext {
  readonly watch: TransactionWatch;
  readonly files: FileMemory;
  readonly log: Logger;
  /** Another session when the one in `view` is gone. */
  readonly reopen: (options: { signal: AbortSignal }) => Promise<HostSession>;
}

/**
 * One host's change: file and memory together, or neither. Whatever fails is undone; the thrown `HostError`
 * tells the step, the cause, the remedy, and what was undone and what could not be.
 */
export function applyChange(
  change: HostChange,
  context: ChangeContext,
  options: EffectOptions,
): Promise<AppliedChange> {
  return new Change(change, context, options).run();
}

class Change {
  readonly #change: HostChange;
  readonly #context: ChangeContext;
  readonly #options: EffectOptions;
  readonly #checkpoint = new Checkpoint();
  readonly #files: readonly FileReplacement[];
  readonly #list: CrtListFile | undefined;
  readonly #memory: MemoryChange | undefined;
  #step = 'begin';

  constructor(change: HostChange, context: ChangeContext, options: EffectOptions) {
    const { deployment } = change;
    const { view } = context;
    const fingerprint1 = checkBundle(change, view.label);
    this.#change = change;
    this.#context = context;
    this.#options = options;
    this.#files = [deployment.file, ...deployment.copies].map(
      (path) => new FileReplacement(view.label, path, deployment, context.files),
    );
    const { crtList, path } = deployment;
    this.#list =
      change.listFile && crtList !== undefined
        ? new CrtListFile(view.label, crtList, path, context.files)
        : undefined;
    this.#memory = memoryChange(change, context, fingerprint1);
  }

  async run(): Promise<AppliedChange> {
    try {
      await this.#take('look', () => this.#look());
      await this.#take('upload and set', () => this.#prepare());
      await this.#take('rename', () => this.#activate());
      await this.#take('commit', async () => this.#memory?.commit(this.#options));
      const verification = await this.#takeVerification();
      return { verification, cleanedUp: await this.#cleanUp() };
    } catch (error) {
      throw await this.#undo(error);
    }
  }

  get #session(): HostSession {
    return this.#context.view.session;
  }

  async #take<T>(step: string, act: () => Promise<T>): Promise<T> {
    const { view, log } = this.#context;
    const startMs = view.clock.monotonicMs();
    this.#step = step;
    this.#options.signal.throwIfAborted();
    const result = await act();
    const durationMs = Math.round((view.clock.monotonicMs() - startMs) * 10) / 10;
    log.debug({ path: this.#change.deployment.path, step, durationMs }, 'host change step');
    return result;
  }

  /** Everything that can be known before something is touched. */
  async #look(): Promise<void> {
    const options = { tidy: this.#change.tidy ?? false, signal: this.#options.signal };
    await waitForAll([
      ...this.#files.map((file) => file.look(this.#session, options)),
      this.#list?.look(this.#session, options),
      this.#memory?.look(this.#options),
    ]);
    this.#assertBasis();
  }

  #assertBasis(): void {
    const { basis, deployment } = this.#change;
    if (basis === undefined) return;
    const { place, worker } = basis;
    const file = [place.file, ...place.copies].findIndex(
      (seen, i) => (seen.state === 'present' ? seen.sha256 : undefined) !== this.#files[i]?.currentSha256,
    );
    if (file !== -1) throw this.#changed(`${this.#files[file]?.path} has changed`);
    const memory = this.#memory;
    if (memory === undefined) return;
    if (memory.loadedBefore?.fingerprint1 !== place.loaded?.fingerprint1)
      throw this.#changed(`what HAProxy has in memory under ${deployment.path} has changed`);
    if (worker !== undefined && memory.pidBefore !== worker.pid)
      throw this.#changed('HAProxy was restarted or reloaded');
  }

  #changed(reason: string): HostError {
    return new HostError('ERR_HOST_CHANGED', {
      host: this.#context.view.label,
      step: 'look',
      reason: `${reason} since the change was decided`,
      retry: 'now',
    });
  }

  /** Nothing of this is seen by HAProxy's clients or by its next start. */
  async #prepare(): Promise<void> {
    const loaded = this.#memory?.loadedBefore;
    const content = Buffer.from(this.#change.pem);
    const tasks: Promise<unknown>[] = [];
    // Registered before the files, so undone after them: a reload reads them.
    if (this.#change.means === 'reload') this.#guardMemory();
    if (this.#change.writeFile) {
      for (const file of this.#files) {
        this.#checkpoint.guard(file.path, (options) =>
          file.undo(options, { keepNew: this.#memory?.keepsNew === true }),
        );
        tasks.push(file.prepare(this.#session, content, loaded, this.#options));
      }
    }
    const list = this.#list;
    if (list !== undefined) {
      // Registered after the bundle's files, so undone before them: no list may name what is not there.
      this.#checkpoint.guard(list.path, (options) => list.undo(options));
      tasks.push(list.prepare(this.#session, this.#options));
    }
    // Registered after the files, so undone before them: whether a file may go depends on the memory.
    if (this.#change.means !== 'reload') this.#guardMemory();
    if (this.#memory !== undefined) tasks.push(this.#memory.stage(this.#options));
    await waitForAll(tasks);
    this.#warnOfLostOwners();
  }

  #guardMemory(): void {
    const memory = this.#memory;
    if (memory === undefined) return;
    const held = this.#files.flatMap((file) => file.heldPems);
    this.#checkpoint.guard("HAProxy's memory", (options) => memory.undo(options, held));
  }

  /** The list comes after what it names: HAProxy does not start from a list that names a missing file. */
  async #activate(): Promise<void> {
    const files = this.#change.writeFile ? this.#files : [];
    await waitForAll(files.map((file) => file.activate(this.#session, this.#options)));
    await this.#list?.activate(this.#session, this.#options);
  }

  async #takeVerification(): Promise<Verification> {
    const { verifyServername: servername, fingerprint256, deployment } = this.#change;
    if (servername === undefined)
      return {
        state: 'unverified',
        reason: 'no handshakes were asked for: HAProxy does not serve this file now',
      };
    const { view, host } = this.#context;
    const { handshakes: count } = this.#change;
    const request = {
      servername,
      fingerprint256,
      family: deployment.family,
      ...(count === undefined ? {} : { handshakes: count }),
    };
    const handshakes = () =>
      verifyHandshakes(view.pool.verify, host, request, { ...this.#options, session: this.#session });
    const verification = await this.#take('verify', () =>
      this.#change.means === 'reload'
        ? settled(view, handshakes, ({ state }) => state !== 'failed', this.#options)
        : handshakes(),
    );
    if (verification.state !== 'failed') return verification;
    throw new HostError('ERR_HOST_UNVERIFIED', {
      host: view.label,
      step: 'verify',
      reason: verification.reason,
      retry: 'later',
      remedy:
        'see what listens there (ss -ltnp on the host) and that verify.connect of the pool can be reached from here',
    });
  }

  /** The change stands whatever happens here: a `.kacme-prev` that stays is swept when the place is seen in sync. */
  async #cleanUp(): Promise<boolean> {
    try {
      await this.#take('clean up', () =>
        waitForAll(
          [...this.#files, ...(this.#list === undefined ? [] : [this.#list])].map((file) =>
            file.forgetPrevious(this.#session, this.#options),
          ),
        ),
      );
      return true;
    } catch (error) {
      const { view, log } = this.#context;
      log.warn(
        { err: error, host: view.label, path: this.#change.deployment.path },
        'previous bundle could not be removed; it is swept later',
      );
      return false;
    }
  }

  #warnOfLostOwners(): void {
    const { log } = this.#context;
    for (const { path, ownerLost: reason } of this.#files) {
      if (reason === undefined) continue;
      log.warn({ path, reason }, 'the account cannot keep the former owner of the file');
    }
  }

  async #undo(error: unknown): Promise<unknown> {
    if (this.#checkpoint.isEmpty) return error;
    const { reopen, log, view } = this.#context;
    const { mandate } = this.#options;
    const reloadMs = this.#change.means === 'reload' ? (view.pool.reload?.timeoutMs ?? 0) : 0;
    const signal = AbortSignal.timeout(UNDO_WITHIN_MS + reloadMs);
    const unwound = await this.#checkpoint.unwind(async () => {
      mandate.assertHeld();
      return { session: await reopen({ signal }), signal, mandate };
    });
    const fields = { path: this.#change.deployment.path, ...unwound };
    if (unwound.left.length === 0) log.info(fields, 'host change undone');
    else log.warn(fields, 'host change left to the holder of the mandate');
    return this.#explain(error, describe(unwound));
  }

  #explain(error: unknown, aftermath: string): HostError {
    const known = error instanceof KacmeError ? error : undefined;
    const [step, reason] =
      error instanceof HostError
        ? // A session that is lost does not know what it was needed for.
          [error.step === 'session' ? this.#step : error.step, error.reason]
        : [this.#step, error instanceof Error ? error.message : String(error)];
    return new HostError(known?.code ?? (this.#options.signal.aborted ? 'ERR_ABORTED' : 'ERR_INTERNAL'), {
      host: this.#context.view.label,
      step,
      reason: `${reason}${/[.!]$/.test(reason) ? '' : '.'} ${aftermath}`,
      retry: known?.retry ?? 'later',
      remedy: known?.remedy,
      cause: error,
    });
  }
}

function memoryChange(
  { means, deployment: { path, crtList }, pem }: HostChange,
  context: ChangeContext,
  fingerprint1: string,
): MemoryChange | undefined {
  switch (means) {
    case 'swap':
      return new MemorySwap({ ...context, path, pem, fingerprint1 });
    case 'add':
      return crtList && new MemoryAdd({ ...context, path, pem, fingerprint1 }, crtList.path);
    case 'reload':
      return new MemoryReload({ ...context, path, fingerprint1 });
    case 'install':
      return undefined;
  }
}

/** SHA-1 of the leaf. What HAProxy could not load must not reach a host, whoever made it. */
function checkBundle({ pem, fingerprint256, deployment }: HostChange, host: string): string {
  const judged = readBundlePem(pem);
  if (judged.state === 'loadable' && judged.facts.fingerprint256 === fingerprint256)
    return judged.facts.fingerprint1;
  throw new HostError('ERR_CERTIFICATE_UNUSABLE', {
    host,
    step: `install ${deployment.path}`,
    reason: judged.state === 'broken' ? judged.reason : 'its leaf is not the one that was announced',
    retry: 'never',
    remedy: `renew the certificate ${deployment.certificate} with --force`,
  });
}

function describe({ undone, failed, left }: Unwound): string {
  const parts = [
    undone.length === 0 ? undefined : `Undone: ${undone.join('; ')}`,
    failed.length === 0 ? undefined : `Could not be undone: ${failed.join('; ')}`,
    left.length === 0 ? undefined : `Left to the holder of the mandate: ${left.join('; ')}`,
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? 'Nothing had been changed' : parts.join('. ');
}
