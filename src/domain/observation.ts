import type { KacmeError } from './errors.ts';
import type { CertificateFacts } from './x509.ts';

/** What one host was seen to hold. It may be lost at any time: looking again gives it back. */
export interface HostObservation {
  readonly haproxy:
    | {
        readonly state: 'running';
        /** As `show info` gives it, such as `2.6.12-1+deb12u4`. */
        readonly version: string;
        /** `tune.bufsize`: a command with its payload must be smaller. */
        readonly bufferBytes: number;
        /** The path of a pending `set ssl cert`, ours or another client's. */
        readonly pendingTransaction: string | undefined;
        /** Undefined when it does not tell. */
        readonly worker: WorkerProcess | undefined;
        /** Undefined without a master CLI: only it tells. */
        readonly workers: WorkersObservation | undefined;
      }
    /** Nothing answers at its socket: stopped, or not started yet. */
    | { readonly state: 'stopped'; readonly reason: string };
  /** By `DeploymentSpec.path`. */
  readonly places: Readonly<Record<string, PlaceObservation>>;
  /** Why places are not among them: a file that the account may not read, a directory where a file should be. */
  readonly unreadable?: Readonly<Record<string, KacmeError>>;
}

/** The process behind the socket: a reload and a restart both make another one. */
export interface WorkerProcess {
  readonly pid: number;
  /** Monotonic, by kacme's clock, as exact as the whole seconds that HAProxy tells. */
  readonly startedMs: number;
}

export interface WorkersObservation {
  readonly current: number;
  /** Those of before a reload that serve their connections to the end. */
  readonly old: number;
  /** Process ids of those old ones that have not given their listeners up, or do not answer. */
  readonly listening: readonly number[];
}

export interface PlaceObservation {
  readonly file: FileObservation;
  /** Same order as `DeploymentSpec.copies`. */
  readonly copies: readonly FileObservation[];
  /** What HAProxy has in memory under this path; undefined when it does not know it, or is stopped. */
  readonly loaded: LoadedCertificate | undefined;
  /** Of a deployment that has one. */
  readonly crtList?: CrtListObservation;
}

export interface CrtListObservation {
  /** Whether the file of the list names the path: what HAProxy's next start goes by. */
  readonly inFile: boolean;
  /**
   * Whether the list in HAProxy's memory does. `addable`: it does not, and can be made to. `fixed`: it does not, and
   * this HAProxy cannot change it, or has no such list. Undefined when HAProxy is stopped.
   */
  readonly inMemory: 'listed' | 'addable' | 'fixed' | undefined;
}

export type FileObservation =
  | { readonly state: 'absent' }
  | {
      readonly state: 'present';
      /** SHA-256 of the whole file, lower-case hex. */
      readonly sha256: string;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
      readonly content: PemContent;
    };

/** What a PEM file is worth to HAProxy. */
export type PemContent =
  | { readonly state: 'loadable'; readonly facts: CertificateFacts }
  | { readonly state: 'broken'; readonly reason: string };

/** From `show ssl cert` (management.txt of HAProxy): the leaf only. */
export interface LoadedCertificate {
  /** SHA-1 of the leaf's DER, lower-case hex. */
  readonly fingerprint1: string;
  readonly notAfter: Date;
  readonly selfSigned: boolean;
}
