import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import type { Status } from '../../src/domain/status.ts';
import { eventually } from '../support/eventually.ts';
import { Unexpected } from './unexpected.ts';

export interface KacmeOptions {
  /** The bundled command. */
  readonly command: string;
  readonly configPath: string;
  /** Gets the log of `serve`, of all its runs. */
  readonly logPath: string;
  /** `http://address:port` of the operations server. */
  readonly operations: string;
  readonly signal: AbortSignal;
}

export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** kacme as an operator has it: a command, a configuration file, a service with a log. */
export class Kacme {
  readonly #options: KacmeOptions;
  #service: { readonly kill: (name: NodeJS.Signals) => void; readonly ended: Promise<Ended> } | undefined;

  constructor(options: KacmeOptions) {
    this.#options = options;
  }

  /** The beginning of each command line that can be typed. */
  get typed(): string {
    const { command, configPath } = this.#options;
    return `node ${relativeTo(process.cwd(), command)} --config ${configPath}`;
  }

  get configPath(): string {
    return this.#options.configPath;
  }

  get logPath(): string {
    return this.#options.logPath;
  }

  async run(...args: string[]): Promise<Finished> {
    const child = this.#spawn(args, ['ignore', 'pipe', 'pipe']);
    let [stdout, stderr] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    return { status: await this.#finished(child), stdout, stderr };
  }

  /** Prints to where the demo prints, so that it looks as it does in the reader's own terminal. */
  async runInView(...args: string[]): Promise<number> {
    return this.#finished(this.#spawn(args, ['ignore', 'inherit', 'inherit']));
  }

  async status(): Promise<Status> {
    const { status, stdout, stderr } = await this.run('status', '--json');
    if (stdout === '') throw new Unexpected(`kacme status ended with ${status}: ${stderr.trim()}`);
    return JSON.parse(stdout) as Status;
  }

  /** Starts `kacme serve`; resolves when it says that it is ready. */
  async serve(): Promise<void> {
    const { logPath, operations, signal } = this.#options;
    await using log: FileHandle = await open(logPath, 'a', 0o600);
    const child = this.#spawn(['serve'], ['ignore', log.fd, log.fd]);
    const ended = once(child, 'exit').then(([code, name]): Ended => ({ code, signal: name }));
    let gone: Ended | undefined;
    void ended.then((end) => {
      gone = end;
    });
    this.#service = { kill: (name) => void child.kill(name), ended };
    await eventually(
      'kacme serve is ready',
      async () => {
        if (gone !== undefined) return 'gone';
        const response = await fetch(`${operations}/readyz`, { signal });
        if (!response.ok) throw new Unexpected(await response.text());
        return 'ready';
      },
      { signal },
    );
    if (gone !== undefined) throw new Unexpected(`kacme serve ended at once (${describeEnd(gone)})`);
  }

  /** Resolves when the service has ended, whoever ended it; never when none runs. */
  async ended(): Promise<string> {
    const end = await (this.#service?.ended ?? new Promise<never>(() => {}));
    return describeEnd(end);
  }

  /** SIGKILL: nothing in it can react. */
  async kill(): Promise<void> {
    this.#service?.kill('SIGKILL');
    await this.#service?.ended;
    this.#service = undefined;
  }

  /** SIGTERM; throws `Unexpected` unless it ends with exit status 0 within ten seconds. Idempotent. */
  async stop(): Promise<void> {
    const service = this.#service;
    if (service === undefined) return;
    this.#service = undefined;
    service.kill('SIGTERM');
    const forced = setTimeout(() => service.kill('SIGKILL'), 10_000);
    const end = await service.ended;
    clearTimeout(forced);
    if (end.code !== 0) throw new Unexpected(`kacme serve ended with ${describeEnd(end)} after SIGTERM`);
  }

  /** The last lines of the service's log; empty when there is none. */
  async logTail(lines: number): Promise<readonly string[]> {
    const log = await readFile(this.#options.logPath, 'utf8').catch(() => '');
    return log.trimEnd().split('\n').slice(-lines);
  }

  #spawn(args: readonly string[], stdio: ('ignore' | 'pipe' | 'inherit' | number)[]) {
    const { command, configPath } = this.#options;
    const { PATH = '/usr/bin:/bin', NO_COLOR, TERM } = process.env;
    // It dies with the demo, however that ends.
    const inDemo = ['--pdeathsig', 'KILL', process.execPath, command, '--config', configPath];
    return spawn('setpriv', [...inDemo, ...args], { stdio, env: { PATH, NO_COLOR, TERM } });
  }

  /** Resolves to the exit status of a command; ends it when the demo is interrupted. */
  async #finished(child: ChildProcess): Promise<number> {
    const { signal } = this.#options;
    const end = () => void child.kill('SIGTERM');
    signal.addEventListener('abort', end);
    try {
      const [code, name] = await once(child, 'close');
      signal.throwIfAborted();
      if (code === null) throw new Unexpected(`kacme was ended by ${name}`);
      return Number(code);
    } finally {
      signal.removeEventListener('abort', end);
    }
  }
}

function describeEnd({ code, signal }: Ended): string {
  return signal ?? `exit status ${code}`;
}

function relativeTo(directory: string, path: string): string {
  return path.startsWith(`${directory}/`) ? path.slice(directory.length + 1) : path;
}
