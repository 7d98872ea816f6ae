import type { WorkerProcess } from '../domain/observation.ts';
import type { Verification } from '../ports/haproxy-host.ts';

/** A pass over a host is made every 30 s at the latest: four of them agree before fewer handshakes are made. */
const SETTLING_MS = 120_000;
/** How long handshakes are believed after that. */
const BELIEVED_MS = 300_000;
/** Places of one host that are asked again in one pass; those that were not for longest. */
const REPEATED_IN_PASS = 50;
/** `show info` tells whole seconds. */
const SAME_START_MS = 3_000;

/** What handshakes depend on. */
export interface Presented {
  readonly fingerprint256: string;
  /** Undefined when HAProxy does not tell: then nothing is believed. */
  readonly worker: WorkerProcess | undefined;
}

interface Kept extends Presented {
  readonly worker: WorkerProcess;
  /** Since when every look found the same, by handshakes. */
  readonly sinceMs: number;
  readonly atMs: number;
  readonly verification: Verification;
  /** Handshakes with this process presented another leaf before. */
  readonly replaced: boolean;
  /** No process but this one can have had what was presented: it was swapped in while this one ran. */
  readonly alone: boolean;
}

/** What is due in a pass. */
export type Recalled =
  /** All handshakes. */
  | { readonly state: 'new' }
  /** One will do, since all were made with this process and this bundle. */
  | { readonly state: 'known' }
  /** None. */
  | { readonly state: 'believed'; readonly verification: Verification };

/**
 * Which places need handshakes in this pass. What a handshake alone can tell is that another process than the one behind the
 * socket answers: an old worker, which only a reload leaves behind, and a reload shows in the process id and its
 * start. So all handshakes are made after each change of process or bundle, and one in every pass for two minutes more;
 * then, as long as HAProxy says the same in every pass, one in five minutes. Which process answers is the same question
 * at every place of a host: of many, some are asked in a pass, in turn.
 */
export class HandshakeMemory {
  readonly #kept = new Map<string, Kept>();

  /** For the places of one host. */
  recall(places: ReadonlyMap<string, Presented>, nowMs: number): ReadonlyMap<string, Recalled> {
    const known: { readonly key: string; readonly kept: Kept }[] = [];
    const recalled = new Map<string, Recalled>();
    for (const [key, presented] of places) {
      const kept = this.#kept.get(key);
      if (kept === undefined || !isSame(kept, presented)) recalled.set(key, { state: 'new' });
      else {
        const settled = kept.atMs - kept.sinceMs >= SETTLING_MS;
        const due = !settled || nowMs - kept.atMs >= BELIEVED_MS;
        if (due) known.push({ key, kept });
        recalled.set(key, due ? { state: 'known' } : { state: 'believed', verification: kept.verification });
      }
    }
    known.sort((a, b) => a.kept.atMs - b.kept.atMs);
    for (const { key, kept } of known.slice(REPEATED_IN_PASS))
      recalled.set(key, { state: 'believed', verification: kept.verification });
    return recalled;
  }

  /** All handshakes are due again. */
  forget(keys: Iterable<string>): void {
    for (const key of keys) this.#kept.delete(key);
  }

  /**
   * What was verified last was swapped into this very process. Whoever else listened there would have presented another leaf,
   * before or now: one look alone does not tell, since an old worker may have had the bundle before a reload lost it.
   */
  swapped(key: string): void {
    const kept = this.#kept.get(key);
    if (kept?.replaced === true) this.#kept.set(key, { ...kept, alone: true });
  }

  /** Whether handshakes have shown since its start that no old worker listens beside this process. */
  isAlone(key: string, worker: WorkerProcess | undefined): boolean {
    const kept = this.#kept.get(key);
    return kept?.alone === true && isSameProcess(kept.worker, worker);
  }

  /** Only a success is kept. Returns what is told of it. */
  keep(
    key: string,
    { fingerprint256, worker }: Presented,
    verification: Verification,
    nowMs: number,
  ): Verification {
    if (verification.state !== 'verified' || worker === undefined) {
      this.#kept.delete(key);
      return verification;
    }
    const before = this.#kept.get(key);
    const same = before !== undefined && isSame(before, { fingerprint256, worker });
    const sinceMs = same ? before.sinceMs : nowMs;
    // What was seen with all handshakes is told on, when one of them is repeated.
    const told = same ? before.verification : verification;
    const known = before !== undefined && isSameProcess(before.worker, worker);
    const replaced = known && (before.replaced || before.fingerprint256 !== fingerprint256);
    const alone = known && before.alone;
    this.#kept.set(key, {
      fingerprint256,
      worker,
      sinceMs,
      atMs: nowMs,
      verification: told,
      replaced,
      alone,
    });
    return told;
  }
}

function isSame(kept: Kept, { fingerprint256, worker }: Presented): boolean {
  return kept.fingerprint256 === fingerprint256 && isSameProcess(kept.worker, worker);
}

function isSameProcess(kept: WorkerProcess, worker: WorkerProcess | undefined): boolean {
  return (
    worker !== undefined &&
    kept.pid === worker.pid &&
    Math.abs(kept.startedMs - worker.startedMs) <= SAME_START_MS
  );
}
