import type { HostTrial } from '../domain/host-check.ts';
import type { DeploymentSpec, HostSpec, KeyFamily, PoolSpec } from '../domain/model.ts';
import type {
  HostObservation,
  PlaceObservation,
  WorkerProcess,
  WorkersObservation,
} from '../domain/observation.ts';
import type { Means } from '../domain/place-decision.ts';
import type { EffectOptions } from './leadership.ts';

/** One bundle to bring to one place on one host. */
export interface HostChange {
  readonly deployment: DeploymentSpec;
  /** Leaf, chain, key; no blank lines; ends with a newline. */
  readonly pem: string;
  /** SHA-256 of the leaf's DER, lower-case hex. */
  readonly fingerprint256: string;
  readonly writeFile: boolean;
  /** Whether the crt-list's file is to name the path; never without a `crtList`. */
  readonly listFile: boolean;
  readonly means: Means;
  /** SNI of the verifying handshakes; undefined skips them (nothing listens: HAProxy is stopped). */
  readonly verifyServername: string | undefined;
  /** Handshakes with each address; what the pool says when undefined. */
  readonly handshakes?: number | undefined;
  /** What the change was decided on. Where the host holds something else by now, it is not made. */
  readonly basis?: ChangeBasis;
  /** Nothing of an interrupted change lies beside the files: it is not looked for. */
  readonly tidy?: boolean;
}

export interface ChangeBasis {
  readonly place: PlaceObservation;
  /** Undefined when HAProxy did not tell. */
  readonly worker: WorkerProcess | undefined;
}

/** What real handshakes ask for, and must get. */
export interface VerificationRequest {
  /** SNI. */
  readonly servername: string;
  /** SHA-256 of the leaf's DER, lower-case hex. */
  readonly fingerprint256: string;
  /**
   * Offer only signature algorithms of this family: HAProxy shows its ECDSA certificate to whoever offers both.
   * Undefined offers all.
   */
  readonly family: KeyFamily | undefined;
  /** With each address; what the pool says when undefined. */
  readonly handshakes?: number;
}

/** `unverified` when the pool says nowhere to connect to. */
export type Verification =
  | { readonly state: 'verified'; readonly handshakes: number }
  | { readonly state: 'unverified'; readonly reason: string }
  | {
      readonly state: 'failed';
      readonly reason: string;
      /** Whether the host itself answered a handshake (`connect` entries with `{host}`), with whatever certificate. */
      readonly answered: boolean;
    };

/** A change that has succeeded. */
export interface AppliedChange {
  readonly verification: Verification;
  /** Whether nothing that it kept or made beside the files is left there. */
  readonly cleanedUp: boolean;
}

/** A place that is to be served after a reload, and the SNI to ask for it. */
export interface ReloadCheck {
  readonly deployment: DeploymentSpec;
  readonly servername: string;
}

export interface ReloadOutcome {
  /** Undefined without a master CLI. */
  readonly workers: WorkersObservation | undefined;
  /** That presented what the files hold; 0 when the pool names no address to connect to. */
  readonly handshakes: number;
}

/** One HAProxy process. Calls are serialized per process (the per-host lock). */
export interface HaproxyHost {
  readonly pool: PoolSpec;
  readonly host: HostSpec;
  /** What the host holds now. Throws when it cannot be reached or its files cannot be read. */
  observe(deployments: readonly DeploymentSpec[], options: { signal: AbortSignal }): Promise<HostObservation>;
  /**
   * Changes the host step by step and undoes it all if a step fails; then the thrown `HostError` names host,
   * step, cause and remedy. Throws `ERR_HOST_CHANGED`, with nothing touched, where the `basis` of the change is gone.
   */
  apply(change: HostChange, options: EffectOptions): Promise<AppliedChange>;
  /**
   * A bundle's file (SSH side) as PEM, its key included; undefined when nothing is there. Throws when the host cannot be
   * reached or the file cannot be read.
   */
  readBundle(file: string, options: { signal: AbortSignal }): Promise<string | undefined>;
  /**
   * Tries what a change will need, and takes it back: makes an empty file beside each bundle and removes it, and asks
   * what the socket permits. Throws when the host cannot be reached.
   */
  rehearse(deployments: readonly DeploymentSpec[], options: EffectOptions): Promise<HostTrial>;
  /**
   * A changed configuration of HAProxy: prepared, validated, reloaded, and verified by handshakes that present what the
   * files hold. Throws `ERR_HAPROXY_RELOAD`, `ERR_HOST_UNVERIFIED` and `ERR_HOST_*`; nothing is undone.
   */
  reload(checks: readonly ReloadCheck[], options: EffectOptions): Promise<ReloadOutcome>;
  /**
   * Removes drafts and kept files that interrupted changes left beside bundles which are in sync. Resolves to the paths
   * (SSH side) that were removed.
   */
  sweep(deployments: readonly DeploymentSpec[], options: EffectOptions): Promise<readonly string[]>;
  /**
   * Ends a certificate transaction of another client that was seen before, unchanged, and long enough ago; resolves to
   * its path, or to undefined when there is none such.
   */
  abortAbandoned(options: EffectOptions): Promise<string | undefined>;
  /** Handshakes only. Never throws for a wrong certificate. */
  verify(request: VerificationRequest, options: { signal: AbortSignal }): Promise<Verification>;
}

/** Gives the same object for the same host every time: it owns the connection and the lock. */
export interface HaproxyHosts {
  host(pool: PoolSpec, host: HostSpec): HaproxyHost;
  /**
   * From now on only these stay connected: any other is let go when its present call has ended. Whoever still asks for
   * one of the others gets it, with a connection that lasts no longer than the call.
   */
  retain(hosts: readonly { readonly pool: PoolSpec; readonly host: HostSpec }[]): void;
  close(): Promise<void>;
}
