import type { Logger } from 'pino';
import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { HostSpec } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import { readBundlePem } from '../domain/x509.ts';
import type { HostChange, Verification } from '../ports/haproxy-host.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { Checkpoint, type Unwound } from './checkpoint.ts';
import { FileReplacement } from './file-replacement.ts';
import { MemorySwap } from './memory-swap.ts';
import type { HostView } from './observe.ts';
import type { TransactionWatch } from './transaction-watch.ts';
import { verifyHandshakes } from './verify.ts';

/** Undoing takes a few round trips, and a connection when the old one was lost. */
const UNDO_WITHIN_MS = 15_000;

export interface ChangeContext {
  readonly view: HostView;
  readonly host: HostSpec;
  readonly watch: TransactionWatch;
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
): Promise<Verification> {
  return new Change(change, context, options).run();
}

class Change {
  readonly #change: HostChange;
  readonly #context: ChangeContext;
  readonly #options: EffectOptions;
  readonly #checkpoint = new Checkpoint();
  readonly #files: readonly FileReplacement[];
  readonly #memory: MemorySwap | undefined;
  #step = 'begin';

  constructor(change: HostChange, context: ChangeContext, options: EffectOptions) {
    const { deployment } = change;
    const { view, watch } = context;
    const fingerprint1 = checkBundle(change, view.label);
    this.#change = change;
    this.#context = context;
    this.#options = options;
    this.#files = [deployment.file, ...deployment.copies].map(
      (path) => new FileReplacement(view.label, path, deployment),
    );
    this.#memory = change.swap
      ? new MemorySwap({ view, watch, path: deployment.path, pem: change.pem, fingerprint1 })
      : undefined;
  }

  async run(): Promise<Verification> {
    try {
      await this.#take('look', () => this.#look());
      await this.#take('upload and set', () => this.#prepare());
      if (this.#change.writeFile) await this.#take('rename', () => this.#activate());
      await this.#take('commit', async () => this.#memory?.commit(this.#options));
      const verification = await this.#takeVerification();
      await this.#cleanUp();
      return verification;
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
    await waitForAll([
      ...this.#files.map((file) => file.look(this.#session, this.#options)),
      ...(this.#memory === undefined ? [] : [this.#memory.look(this.#options)]),
    ]);
  }

  /** Nothing of this is seen by HAProxy's clients or by its next start. */
  async #prepare(): Promise<void> {
    const loaded = this.#memory?.loadedBefore;
    const content = Buffer.from(this.#change.pem);
    const tasks: Promise<unknown>[] = [];
    if (this.#change.writeFile) {
      for (const file of this.#files) {
        this.#checkpoint.guard(file.path, (options) =>
          file.undo(options, { keepNew: this.#memory?.keepsNew === true }),
        );
        tasks.push(file.prepare(this.#session, content, loaded, this.#options));
      }
    }
    const memory = this.#memory;
    if (memory !== undefined) {
      const held = this.#files.flatMap((file) => file.heldPems);
      // Registered after the files, so undone before them: whether a file may go depends on the memory.
      this.#checkpoint.guard("HAProxy's memory", (options) => memory.undo(options, held));
      tasks.push(memory.set(this.#options));
    }
    await waitForAll(tasks);
    this.#warnOfLostOwners();
  }

  async #activate(): Promise<void> {
    await waitForAll(this.#files.map((file) => file.activate(this.#session, this.#options)));
  }

  async #takeVerification(): Promise<Verification> {
    const { verifyServername: servername, fingerprint256, deployment } = this.#change;
    if (servername === undefined)
      return {
        state: 'unverified',
        reason: 'no handshakes were asked for: HAProxy does not serve this file now',
      };
    const { view, host } = this.#context;
    const request = { servername, fingerprint256, family: deployment.family };
    const verification = await this.#take('verify', () =>
      verifyHandshakes(view.pool.verify, host, request, this.#options),
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

  /** The change stands whatever happens here: a `.kacme-prev` that stays is dealt with by the next change. */
  async #cleanUp(): Promise<void> {
    try {
      await this.#take('clean up', () =>
        waitForAll(this.#files.map((file) => file.forgetPrevious(this.#session, this.#options))),
      );
    } catch (error) {
      const { view, log } = this.#context;
      log.warn(
        { err: error, host: view.label, path: this.#change.deployment.path },
        'previous bundle could not be removed; the next change removes it',
      );
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
    const { reopen, log } = this.#context;
    const { mandate } = this.#options;
    const signal = AbortSignal.timeout(UNDO_WITHIN_MS);
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
        ? [error.step, error.reason]
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
