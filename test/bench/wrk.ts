import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { programs } from '../support/programs.ts';
import { assertWork } from './benchmark.ts';
import type { Endpoint } from './handshakes.ts';

/** What wrk(1) counts as a failure. */
export const FAILURES = ['connect', 'read', 'write', 'timeout', 'status'] as const;
export type Failure = (typeof FAILURES)[number];

export interface WrkCounts {
  /** That were answered. */
  readonly requests: number;
  readonly failures: Readonly<Record<Failure, number>>;
}

export interface Wrk {
  /** Throws when it did not ask, or tells nothing. */
  stop(): Promise<WrkCounts>;
}

/** Longer than any benchmark: `stop` ends it. */
const ENDLESS = '6h';

/** wrk(1) with two connections at a time, and a new one for every request: nothing is resumed, nothing kept alive. */
export function startWrk({ address, port }: Endpoint): Wrk {
  const { wrk, env } = programs();
  const load = ['-t', '1', '-c', '2', '-d', ENDLESS, '--timeout', '5s', '-H', 'Connection: close'];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', wrk, ...load, `https://${address}:${port}/`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env,
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const ended = once(child, 'close');
  return {
    stop: async () => {
      // It reports at the first SIGINT.
      child.kill('SIGINT');
      await ended;
      return countsOf(output);
    },
  };
}

/** The report names errors only where there were some. */
function countsOf(output: string): WrkCounts {
  const requests = Number(/^\s*(\d+) requests in /m.exec(output)?.[1] ?? Number.NaN);
  assertWork(requests > 0, `wrk asked nothing: ${output}`);
  const count = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? 0);
  return {
    requests,
    failures: {
      connect: count(/Socket errors: .*\bconnect (\d+)/),
      read: count(/Socket errors: .*\bread (\d+)/),
      write: count(/Socket errors: .*\bwrite (\d+)/),
      timeout: count(/Socket errors: .*\btimeout (\d+)/),
      status: count(/Non-2xx or 3xx responses: (\d+)/),
    },
  };
}
