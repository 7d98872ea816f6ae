import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchmarkOptions } from './benchmark.ts';

/** A log line of kacme; `time` in milliseconds since 1970, by the clock of this machine. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string; readonly timeMs: number };

export interface LoggedOptions {
  readonly from: number;
  readonly withinMs?: number;
  readonly signal: AbortSignal;
}

export interface BenchService {
  readonly pid: number;
  /** How many lines it has logged: `logged` can look from here on. */
  readonly lines: number;
  /** What it has logged from there on. */
  linesFrom(from: number): readonly LogLine[];
  /** The first line from `from` on that fits, as soon as it is logged; throws with the log's end after `withinMs` (30 s). */
  logged(fits: (line: LogLine) => boolean, options: LoggedOptions): Promise<LogLine>;
  /** All lines from `from` on that fit, as soon as there are `count`. */
  loggedTimes(
    count: number,
    fits: (line: LogLine) => boolean,
    options: LoggedOptions,
  ): Promise<readonly LogLine[]>;
  /** `VmRSS` of proc_pid_status(5), in MB of 10^6 bytes. */
  residentMb(): Promise<number>;
  /** `VmHWM`, the most that it ever was. */
  peakMb(): Promise<number>;
  /** User and system time so far. */
  processorMs(): Promise<number>;
  /** Resolves once it has used no processor time for a while. */
  idle(options: { signal: AbortSignal }): Promise<void>;
  /** SIGTERM; throws unless it ends cleanly. */
  stop(): Promise<void>;
}

const LOGGED_WITHIN_MS = 30_000;
const STOPPED_WITHIN_MS = 10_000;
const QUIET_MS = 150;

/** Nothing else: NODE_EXTRA_CA_CERTS alone, for one, makes Node 20 start 70 ms later. */
export const BARE_ENVIRONMENT = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' };

/** It dies with this process, so that a killed bench leaves nothing running. */
export const tied = (args: readonly string[]): [string, string[]] => [
  'setpriv',
  ['--pdeathsig', 'KILL', process.execPath, ...args],
];

/**
 * `kacme serve`, as it was built. Each line of its log is read the moment it is written, and nothing else is done
 * here: asking again and again would take the processor from what is measured.
 */
export function startService(
  { command, profiles }: Pick<BenchmarkOptions, 'command' | 'profiles'>,
  configPath: string,
): BenchService {
  const profiling = profiles === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', profiles];
  const child = spawn(...tied([...profiling, command, '--config', configPath, 'serve']), {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: BARE_ENVIRONMENT,
  });
  const log: LogLine[] = [];
  const raw: string[] = [];
  const waiting = new Set<() => void>();
  createInterface(child.stderr).on('line', (text) => {
    raw.push(text);
    const line = parseLine(text);
    if (line !== undefined) log.push(line);
    for (const look of waiting) look();
  });
  const ended = once(child, 'close');
  void ended.then(() => {
    for (const look of waiting) look();
  });
  const isGone = () => child.exitCode !== null || child.signalCode !== null;

  const loggedTimes: BenchService['loggedTimes'] = async (count, fits, options) => {
    const { from, withinMs = LOGGED_WITHIN_MS, signal } = options;
    const deadline = AbortSignal.timeout(withinMs);
    const found: LogLine[] = [];
    let next = from;
    const either = AbortSignal.any([signal, deadline]);
    return await new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        waiting.delete(look);
        either.removeEventListener('abort', look);
        act();
      };
      const look = () => {
        for (; next < log.length; next++) {
          const line = log[next];
          if (line !== undefined && fits(line)) found.push(line);
        }
        if (found.length >= count) return settle(() => resolve(found));
        if (signal.aborted) return settle(() => reject(signal.reason));
        if (!deadline.aborted && !isGone()) return;
        const why = isGone() ? 'ended' : `logged it ${found.length} times of ${count} within ${withinMs} ms`;
        settle(() => reject(new Error(`kacme serve ${why}; its last lines:\n${raw.slice(-30).join('\n')}`)));
      };
      waiting.add(look);
      either.addEventListener('abort', look);
      look();
    });
  };
  return {
    pid: child.pid ?? -1,
    get lines() {
      return log.length;
    },
    linesFrom: (from) => log.slice(from),
    logged: async (fits, options) => {
      const [line] = await loggedTimes(1, fits, options);
      if (line === undefined) throw new RangeError('one line was asked for');
      return line;
    },
    loggedTimes,
    residentMb: () => memoryMb(child.pid, 'VmRSS'),
    peakMb: () => memoryMb(child.pid, 'VmHWM'),
    processorMs: () => processorMsOf(child.pid),
    idle: async ({ signal }) => {
      const deadlineMs = performance.now() + LOGGED_WITHIN_MS;
      for (let before = -1; performance.now() < deadlineMs; ) {
        const now = await processorMsOf(child.pid);
        if (now === before) return;
        before = now;
        await sleep(QUIET_MS, undefined, { signal });
      }
      throw new Error('kacme serve did not come to rest');
    },
    stop: async () => {
      if (isGone()) return;
      child.kill('SIGTERM');
      const forced = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS);
      await ended;
      clearTimeout(forced);
      if (child.exitCode === 0) return;
      const how = child.signalCode ?? `exit status ${child.exitCode}`;
      throw new Error(`kacme serve ended with ${how}; its last lines:\n${raw.slice(-30).join('\n')}`);
    },
  };
}

function parseLine(text: string): LogLine | undefined {
  if (!text.startsWith('{')) return undefined;
  const line = JSON.parse(text);
  return { ...line, timeMs: Date.parse(line.time) };
}

/** A field of proc_pid_status(5), in MB of 10^6 bytes. */
async function memoryMb(pid: number | undefined, field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  return (Number(kilobytes) * 1_024) / 1_000_000;
}

/** Linux counts in hundredths of a second, whatever the kernel's own tick is (time(7)). */
const TICK_MS = 10;

/** User and system time of a process so far (proc_pid_stat(5)). */
export async function processorMsOf(pid: number | undefined): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(utime) + Number(stime)) * TICK_MS;
}
