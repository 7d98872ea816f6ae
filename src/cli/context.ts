import type { Writable } from 'node:stream';
import type { ScanRequest } from '../app/host-keys.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { HostKeyScan } from '../ports/host-key-scan.ts';
import type { KacmeService } from '../ports/service.ts';

/** Where text for people goes: `process.stdout`, `process.stderr`, or a stream of a test. */
export interface Output extends Writable {
  readonly isTTY?: boolean;
  /** Width of the terminal in characters. */
  readonly columns?: number;
}

export type LogLevel = KacmeConfig['log']['level'];

/** Options that every command understands. */
export interface GlobalOptions {
  /** In the order given; later files overlay earlier ones. Never empty. */
  readonly configPaths: readonly string[];
  /** Undefined: as configured. */
  readonly logLevel: LogLevel | undefined;
}

/** A service to ask, and the way it was reached. */
export interface ServiceHandle {
  readonly service: KacmeService;
  /** `control socket`: a running service answers. `direct`: none runs, this process does the work itself. */
  readonly via: 'control socket' | 'direct';
  /** Gives back connections, locks and files. Idempotent. */
  close(): Promise<void>;
}

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What the commands need of the world; main.ts supplies the real one. */
export interface CliContext {
  /** Aborts when the operator wants this process to stop. */
  readonly signal: AbortSignal;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Environment;
  readonly version: string;
  now(): Date;
  /** The running service if one answers at the configured control socket, else one inside this process. */
  connect(options: GlobalOptions, cancellation: { signal: AbortSignal }): Promise<ServiceHandle>;
  /** Asks the configured hosts for their host keys, from this process. */
  scanHosts(
    options: GlobalOptions,
    request: ScanRequest,
    cancellation: { signal: AbortSignal },
  ): Promise<readonly HostKeyScan[]>;
  /** The configuration with the hosts that are to be discovered now, those of other pools than `pool` left out. */
  discoverHosts(
    config: KacmeConfig,
    request: { readonly pool: string | undefined; readonly signal: AbortSignal },
  ): Promise<KacmeConfig>;
  /** Runs the service; resolves after a clean stop, which `signal` asks for. */
  serve(options: GlobalOptions, cancellation: { signal: AbortSignal }): Promise<void>;
}

/** 0 done or nothing to do, 1 failed, 2 usage or configuration, 3 partly done. */
export type ExitStatus = 0 | 1 | 2 | 3;
