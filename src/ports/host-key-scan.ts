import type { ErrorReport } from '../domain/errors.ts';
import type { JumpSpec } from '../domain/model.ts';

/** An sshd whose host keys are to be pinned: that of a host, or of a jump host on the way to it. */
export interface SshdTarget {
  readonly pool: string;
  readonly name: string;
  readonly role: 'host' | 'jump host';
  readonly address: string;
  readonly port: number;
  /** Under which its keys are to be pinned, in the place of the address. */
  readonly hostKeyName?: string | undefined;
  /** Where its keys are pinned, or will be. */
  readonly knownHosts: string;
  /** Bound of each connection on the way to it, and of the asking. */
  readonly connectTimeoutMs: number;
  /** The nearest one first. */
  readonly jumps: readonly JumpSpec[];
}

/**
 * `new`: not pinned, and no other key of its type is. `differs`: another key of its type is pinned. `revoked`: marked
 * so, pinned or not.
 */
export type HostKeyStanding = 'pinned' | 'new' | 'differs' | 'revoked';

export interface ScannedHostKey {
  /** As in the key itself, such as `ssh-ed25519`. */
  readonly keyType: string;
  /** As `ssh-keygen -lf` prints it. */
  readonly fingerprint: string;
  readonly standing: HostKeyStanding;
  /** `FILE:LINE` of what is pinned or revoked; empty for a new key. */
  readonly pinnedAt: readonly string[];
  /** The line that pins it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
  readonly knownHostsLine: string;
}

export interface HostKeyScan extends Omit<SshdTarget, 'hostKeyName' | 'connectTimeoutMs' | 'jumps'> {
  readonly keys: readonly ScannedHostKey[];
  /** What ended the scan early; the keys seen before it are there. */
  readonly failure: ErrorReport | undefined;
}

/** Asks one sshd for its host keys of every type, and logs in nowhere but on jump hosts. Throws only `signal.reason`. */
export type ScanHostKeys = (target: SshdTarget, options: { signal: AbortSignal }) => Promise<HostKeyScan>;
