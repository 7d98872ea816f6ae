import { Writable } from 'node:stream';
import type { CliContext, GlobalOptions, Output } from '../../../src/cli/context.ts';
import type { KacmeService } from '../../../src/ports/service.ts';
import { fakeService, NOW } from './fake-service.ts';

/** Keeps what is written; a terminal when it has columns. */
export class TextOutput extends Writable implements Output {
  text = '';
  readonly isTTY: boolean;
  readonly columns: number;

  constructor(columns?: number) {
    super({ decodeStrings: false });
    this.isTTY = columns !== undefined;
    this.columns = columns ?? 0;
  }

  override _write(chunk: string, _encoding: string, done: () => void): void {
    this.text += chunk;
    done();
  }
}

export interface FakeContext extends CliContext {
  readonly stdout: TextOutput;
  readonly stderr: TextOutput;
  /** In the order of the calls. */
  readonly calls: { readonly call: 'connect' | 'serve' | 'close'; readonly options?: GlobalOptions }[];
}

export function fakeContext(
  options: {
    readonly service?: Partial<KacmeService>;
    readonly via?: 'control socket' | 'direct';
    /** Width of the terminal that both outputs are; without it they are piped. */
    readonly columns?: number;
  } & Partial<Pick<CliContext, 'connect' | 'scanHosts' | 'serve' | 'signal' | 'env'>> = {},
): FakeContext {
  const calls: FakeContext['calls'] = [];
  return {
    signal: options.signal ?? new AbortController().signal,
    stdout: new TextOutput(options.columns),
    stderr: new TextOutput(options.columns),
    env: options.env ?? {},
    version: '1.2.3',
    calls,
    now: () => NOW,
    connect:
      options.connect ??
      (async (global) => {
        calls.push({ call: 'connect', options: global });
        return {
          service: fakeService(options.service),
          via: options.via ?? 'control socket',
          close: async () => void calls.push({ call: 'close' }),
        };
      }),
    scanHosts: options.scanHosts ?? (async () => []),
    discoverHosts: async (config) => config,
    serve: options.serve ?? (async (global) => void calls.push({ call: 'serve', options: global })),
  };
}
