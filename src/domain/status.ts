import type { ErrorReport } from './errors.ts';
import type { KeyType } from './model.ts';
import type { RenewalTime } from './renewal-info.ts';

/** Everything `kacme status` shows; dates are ISO 8601 in UTC so that it crosses the control socket as JSON. */
export interface Status {
  readonly at: string;
  /** `leading`: this process acts. `standby`: another one does. `offline`: read from the store, no service runs. */
  readonly role: 'leading' | 'standby' | 'offline';
  readonly certificates: readonly CertificateStatus[];
  readonly hosts: readonly HostStatus[];
  /** One for each pool whose hosts are learned. */
  readonly discoveries: readonly DiscoveryStatus[];
}

/** Where the hosts of a pool are learned from, and how that goes. */
export interface DiscoveryStatus {
  readonly pool: string;
  /** Such as `SRV records of _haproxy-ssh._tcp.example.org`. */
  readonly source: string;
  /** How many hosts the pool has at present. */
  readonly hosts: number;
  /** When this process last got an answer. */
  readonly answeredAt: string | undefined;
  /** Hosts that the last answer lacked: they go when the next one lacks them, too. */
  readonly missing: readonly string[];
  /** Hosts that are not served, and why. */
  readonly leftOut: readonly { readonly name: string; readonly reason: string }[];
  /** What the last answer left open. */
  readonly doubts: readonly string[];
  /** Why there is no answer; those known before stay. */
  readonly failure: (ErrorReport & { readonly since: string }) | undefined;
}

export interface CertificateStatus {
  readonly name: string;
  readonly identifiers: readonly string[];
  /** As configured: which half of a dual certificate this is. */
  readonly key: KeyType;
  /** `missing`: nothing held, not even a self-signed bundle. `unreadable`: its records in the store are damaged. */
  readonly state: 'unreadable' | 'missing' | 'self-signed' | 'valid' | 'expired' | 'revoked';
  readonly generation: number;
  /** Bundles that are replaced and then revoked, the revocation of which is not done. */
  readonly pendingRevocations: readonly PendingRevocation[];
  readonly issuer: string | undefined;
  readonly fingerprint256: string | undefined;
  readonly notAfter: string | undefined;
  readonly renewAt: string | undefined;
  /** Whose word `renewAt` is; undefined when nothing is held. */
  readonly renewAtBasis: RenewalTime['basis'] | undefined;
  /** Why the CA's window is where it is, in its own words (RFC 9773 section 4.2). */
  readonly explanationURL: string | undefined;
  /** What happens next and why, such as `waits until ...: not due`. */
  readonly next: string;
  readonly lastSuccess: string | undefined;
  readonly lastFailure:
    | (ErrorReport & { readonly at: string; readonly failures: number; readonly notBefore: string })
    | undefined;
}

export interface PendingRevocation {
  readonly fingerprint256: string;
  readonly reason: string;
  readonly requestedAt: string;
  /** Of the last attempt; undefined while hosts are waited for. */
  readonly failure: ErrorReport | undefined;
}

export type PlaceState =
  /** File and memory hold the active bundle and handshakes present it. */
  | 'in sync'
  /** The same, but nowhere was given to check it by handshakes. */
  | 'unverified'
  /** The file is right; HAProxy is stopped and will load it when it starts. */
  | 'file only'
  | 'out of sync'
  /** Holds a valid certificate of ours that is better than the bundle, which is self-signed, expired or covers less. */
  | 'kept'
  /** A certificate that is not kacme's: left alone. */
  | 'foreign'
  | 'failed'
  | 'unreachable'
  /** No key of the host is pinned: nothing is sent to it until an operator has done so. */
  | 'awaiting pin'
  /** Not looked at yet. */
  | 'unknown';

/**
 * Whether a place is as it should be, as far as can be told: `kept` is better than the bundle, `unverified` and
 * `file only` lack only what cannot be had now. Undefined: not known yet.
 */
export function isInSync(state: PlaceState): boolean | undefined {
  switch (state) {
    case 'in sync':
    case 'unverified':
    case 'file only':
    case 'kept':
      return true;
    case 'unknown':
      return undefined;
    default:
      return false;
  }
}

export interface HostStatus {
  readonly pool: string;
  readonly host: string;
  readonly reachable: boolean | undefined;
  readonly haproxyVersion: string | undefined;
  readonly observedAt: string | undefined;
  readonly places: readonly PlaceStatus[];
}

export interface PlaceStatus {
  readonly certificate: string;
  readonly path: string;
  /** The generation it was compared with; undefined when it could not be looked at, or there is no bundle yet. */
  readonly generation: number | undefined;
  readonly state: PlaceState;
  readonly reason: string;
  readonly failure: ErrorReport | undefined;
  /** When the change that failed is tried again; undefined: at the next look. */
  readonly retryAt?: string;
}

/** What a command that touches hosts did to each place. */
export interface PlaceResult {
  readonly pool: string;
  readonly host: string;
  readonly certificate: string;
  readonly path: string;
  /** `left`: nothing had to be done, or must not be done; the reason says which. */
  readonly action: 'installed' | 'swapped' | 'added' | 'reloaded' | 'left' | 'failed';
  /** Whether the host is as it should be now. */
  readonly inSync: boolean;
  readonly reason: string;
  readonly failure: ErrorReport | undefined;
}

/** What `kacme renew` and the account and self-signed part of `kacme bootstrap` did to each certificate. */
export interface CertificateResult {
  readonly certificate: string;
  /** `pending`: to be revoked, but a host may still present it. `planned`: a dry run, it would have been issued. */
  readonly action:
    | 'issued'
    | 'created'
    | 'adopted'
    | 'rolled back'
    | 'kept'
    | 'planned'
    | 'revoked'
    | 'pending'
    | 'failed';
  readonly reason: string;
  readonly failure: ErrorReport | undefined;
}

/** `done`: everything is as it should be. `partly`: some hosts are not. `failed`: nothing useful was reached. */
export interface Summary {
  readonly outcome: 'done' | 'partly' | 'failed';
  readonly certificates: readonly CertificateResult[];
  readonly places: readonly PlaceResult[];
  /** Pools whose hosts could not be learned: who was known was served. */
  readonly unlearned?: readonly { readonly pool: string; readonly failure: ErrorReport }[];
}

/** What `kacme adopt` did; `problems` are sources that told nothing. */
export interface AdoptionSummary extends Summary {
  readonly accounts: readonly AccountAdoption[];
  readonly problems: readonly AdoptionProblem[];
}

/** What became of an ACME account that another client holds. */
export interface AccountAdoption {
  readonly issuer: string;
  readonly where: string;
  readonly action: 'adopted' | 'kept' | 'planned' | 'failed';
  readonly reason: string;
  readonly failure: ErrorReport | undefined;
}

export interface AdoptionProblem {
  /** A file, or `POOL/HOST`. */
  readonly where: string;
  readonly reason: string;
  readonly failure: ErrorReport | undefined;
}

/** What `kacme reload` did to one host. `untouched`: one before it failed. */
export interface ReloadResult {
  readonly pool: string;
  readonly host: string;
  readonly action: 'reloaded' | 'failed' | 'untouched';
  readonly reason: string;
  readonly failure: ErrorReport | undefined;
}

/** `done`: every host was reloaded. `partly`: some were. `failed`: none was. */
export interface ReloadSummary {
  readonly outcome: 'done' | 'partly' | 'failed';
  /** In the order they were gone through. */
  readonly hosts: readonly ReloadResult[];
}

/** A line of progress of long work, for people. */
export interface Progress {
  readonly message: string;
}
