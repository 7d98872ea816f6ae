import type { WorkerProcess } from '../domain/observation.ts';
import type { Verification } from '../ports/haproxy-host.ts';

/** A pass over a host is made every 30 s at the latest: four of them agree before fewer handshakes are made. */
const SETTLING_MS = 120_000;
/** How long handshakes are believed after that. */
const BELIEVED_MS = 300_000;
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
}

/**
 * Which places need handshakes in this pass. What a handshake alone can tell is that another process than the one behind the
 * socket answers: an old worker, which only a reload leaves behind, and a reload shows in the process id and its
 * start. So all handshakes are made after each change of process or bundle, and one in every pass for two minutes more;
 * then, as long as HAProxy says the same in every pass, one in five minutes.
 */
export class HandshakeMemory {
  readonly #kept = new Map<string, Kept>();

  /** `new`: all handshakes are due. `known`: one will do, since all were made with this process and this bundle. */
  recall(
    key: string,
    presented: Presented,
    nowMs: number,
  ):
    | { readonly state: 'new' | 'known' }
    | { readonly state: 'believed'; readonly verification: Verification } {
    const kept = this.#kept.get(key);
    if (kept === undefined || !isSame(kept, presented)) return { state: 'new' };
    const settled = kept.atMs - kept.sinceMs >= SETTLING_MS;
    if (!settled || nowMs - kept.atMs >= BELIEVED_MS) return { state: 'known' };
    return { state: 'believed', verification: kept.verification };
  }

  /** Whether all handshakes were made with this process, whatever it presented. */
  knows(key: string, worker: WorkerProcess | undefined): boolean {
    const kept = this.#kept.get(key);
    return kept !== undefined && isSameProcess(kept.worker, worker);
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
    this.#kept.set(key, { fingerprint256, worker, sinceMs, atMs: nowMs, verification: told });
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
