import type { HostTrial } from '../domain/host-check.ts';
import { HostError } from '../domain/host-error.ts';
import { Lane } from '../domain/lane.ts';
import type { LoadedCertificate, WorkerProcess } from '../domain/observation.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import {
  type CertificateList,
  isEmptyEntry,
  isLocked,
  isWhole,
  type Refusal,
  readAbort,
  readBufferBytes,
  readCanAdd,
  readCertificate,
  readCertificateList,
  readCommit,
  readCrtList,
  readLevel,
  readListChange,
  readPid,
  readRefusal,
  readSet,
  readUptimeMs,
  readVersion,
  splitAnswers,
} from './answers.ts';
import { type AskOptions, BROKEN_ANSWER_REMEDY, type Connect, HaproxySocket } from './haproxy-socket.ts';

const LOCKED_ATTEMPTS = 40;
const LOCKED_PAUSE_MS = 50;
/** While the size of a buffer is not known yet, a line must stay far below any. */
const COMMANDS_IN_FIRST_LINE = 20;
/** Of a buffer, which also holds what HAProxy keeps free to rewrite (`tune.maxrewrite`). */
const LINE_SHARE = 0.75;
/** Lines asked side by side would find the certificates locked by one another ("Operations on certificates are currently locked"). */
const LINES_AT_ONCE = 1;
const UNREADABLE_REMEDY =
  'see what answers at this socket: it must be the stats or the master socket of HAProxy itself, 2.2 or newer';
/** What would end an argument or a command, or start a payload, on HAProxy's command line; `*` marks pending. */
const UNSPEAKABLE = /[\s;\\'"<>#]|^\*|^$/;

export interface RuntimeApiOptions {
  /** `pool/host`, for messages. */
  readonly host: string;
  /** The master CLI passes commands on to the worker and keeps the connection open until told to quit. */
  readonly socket: 'stats' | 'master';
  readonly connect: Connect;
  readonly clock: Clock;
}

/** What one round trip tells about a process. */
export interface RuntimeView {
  readonly version: string;
  /** Of the worker; undefined when it does not tell. */
  readonly pid: number | undefined;
  /** Undefined when it does not tell how long it runs. */
  readonly worker: WorkerProcess | undefined;
  /** `tune.bufsize`: a command with its payload must be smaller. */
  readonly bufferBytes: number;
  readonly pending: string | undefined;
  /** Every path that HAProxy knows, also one with nothing loaded yet. */
  readonly known: readonly string[];
  /** By path; undefined for one that HAProxy does not know. */
  readonly loaded: ReadonlyMap<string, LoadedCertificate | undefined>;
}

/**
 * HAProxy's runtime API (management.txt section 9.3), one connection per call: its sockets serve ten at a
 * time. Throws `ERR_HAPROXY_*`; what changes something also `ERR_MANDATE_LOST`, with nothing sent. There is ONE
 * certificate transaction per process, so callers must not interleave `setCertificate` to `commit` of one process (the
 * per-host lock).
 */
export class RuntimeApi {
  readonly #socket: HaproxySocket;
  readonly #master: boolean;
  readonly #clock: Clock;
  readonly #lines = new Lane(LINES_AT_ONCE);

  constructor({ host, socket, connect, clock }: RuntimeApiOptions) {
    this.#socket = new HaproxySocket(host, connect);
    this.#master = socket === 'master';
    this.#clock = clock;
  }

  /** Version, buffer size, pending transaction and what is loaded under `paths`. */
  async look(paths: readonly string[], { signal }: { signal: AbortSignal }): Promise<RuntimeView> {
    const step = 'look at HAProxy';
    const shows = paths.map((path) => `show ssl cert ${this.#argument(path, step)}`);
    const general = ['show info', 'show pools', 'show ssl cert'];
    const first = await this.#askLine(step, [...general, ...shows.slice(0, COMMANDS_IN_FIRST_LINE)], {
      signal,
    });
    const [info = '', pools = '', list = '', ...some] = first;
    // At once: what else is asked may take longer than a restart.
    const worker = this.#workerOf(info);
    const bufferBytes = this.#expect(`${step}: show pools`, pools, readBufferBytes(pools));
    const certificateList = readCertificateList(list);
    const rest = linesOf(shows.slice(COMMANDS_IN_FIRST_LINE), bufferBytes * LINE_SHARE);
    const certificates = [
      ...some,
      ...(await waitForAll(rest.map((commands) => this.#askLine(step, commands, { signal })))).flat(),
    ];
    return {
      version: this.#expect(`${step}: show info`, info, readVersion(info)),
      pid: readPid(info),
      worker,
      bufferBytes,
      pending: this.#expect(`${step}: show ssl cert`, list, certificateList).pending,
      known: certificateList?.paths ?? [],
      loaded: new Map(
        paths.map((path, i) => [path, this.#certificate(step, path, certificates[i] ?? '', certificateList)]),
      ),
    };
  }

  #workerOf(info: string): WorkerProcess | undefined {
    const [pid, uptimeMs] = [readPid(info), readUptimeMs(info)];
    if (pid === undefined || uptimeMs === undefined) return undefined;
    return { pid, startedMs: this.#clock.monotonicMs() - uptimeMs };
  }

  /** What this connection may do (management.txt section 9.3, `show cli level`); undefined when it does not tell. */
  async level({ signal }: { signal: AbortSignal }): Promise<HostTrial['socketLevel']> {
    return readLevel(await this.#ask('ask what the socket permits', 'show cli level', { signal }));
  }

  /** Process id of the worker that answers. */
  async pid({ signal }: { signal: AbortSignal }): Promise<number> {
    const step = 'ask which worker answers';
    const info = await this.#ask(step, 'show info', { signal });
    return this.#expect(step, info, readPid(info));
  }

  /** The certificate of the pending transaction, undefined when there is none for this path. */
  async showPending(
    path: string,
    { signal }: { signal: AbortSignal },
  ): Promise<LoadedCertificate | undefined> {
    const step = `show the pending transaction of ${path}`;
    return readCertificate(await this.#ask(step, `show ssl cert *${this.#argument(path, step)}`, { signal }));
  }

  /**
   * Opens a transaction with `pem` (blank lines are left out: one would end the payload). Never sends what
   * does not fit `bufferBytes`: HAProxy 2.6 may crash on it. Throws `ERR_HAPROXY_PAYLOAD_TOO_LARGE`, or
   * `ERR_HAPROXY_BUSY` when it met another transaction; that one holds `pem` now and should be aborted.
   */
  async setCertificate(
    path: string,
    pem: string,
    { bufferBytes, signal, mandate }: EffectOptions & { bufferBytes: number },
  ): Promise<void> {
    const step = `set certificate ${path}`;
    const command = this.#setCommand(path, pem);
    this.#assertFits(step, command, bufferBytes);
    const outcome = readSet(await this.#ask(step, command, { signal, mandate }), path);
    if (outcome === 'created') return;
    if (outcome !== 'merged') throw this.#refusal(step, outcome);
    throw new HostError('ERR_HAPROXY_BUSY', {
      host: this.#socket.host,
      step,
      reason: 'another client opened a certificate transaction at the same moment',
      retry: 'later',
      remedy: 'let only kacme change certificates of this HAProxy',
    });
  }

  /** Throws `ERR_HAPROXY_PAYLOAD_TOO_LARGE` for a bundle that `setCertificate` would not send. */
  assertCertificateFits(path: string, pem: string, bufferBytes: number): void {
    this.#assertFits(`set certificate ${path}`, this.#setCommand(path, pem), bufferBytes);
  }

  /** Commits the transaction and reads back what HAProxy has under `path` after it. */
  async commit(path: string, options: EffectOptions): Promise<LoadedCertificate | undefined> {
    const step = `commit certificate ${path}`;
    const argument = this.#argument(path, step);
    // One line and one answer: asked apart, a commit that was read wrongly would be sent again.
    const answer = await this.#ask(step, `commit ssl cert ${argument};show ssl cert ${argument}`, options);
    const outcome = readCommit(answer);
    if (outcome !== 'committed') throw this.#refusal(step, outcome);
    return readCertificate(answer);
  }

  /** Resolves to false when nothing was pending. */
  async abort(path: string, options: EffectOptions): Promise<boolean> {
    const step = `abort the transaction of ${path}`;
    const outcome = readAbort(await this.#ask(step, `abort ssl cert ${this.#argument(path, step)}`, options));
    if (typeof outcome !== 'string') throw this.#refusal(step, outcome);
    return outcome === 'aborted';
  }

  /** The paths that a crt-list names in memory; undefined for a list that HAProxy does not know. */
  async crtList(list: string, { signal }: { signal: AbortSignal }): Promise<readonly string[] | undefined> {
    const step = `show crt-list ${list}`;
    return readCrtList(await this.#ask(step, `show ssl crt-list ${this.#argument(list, step)}`, { signal }));
  }

  /** Whether a certificate can be added while HAProxy runs. */
  async canAdd({ signal }: { signal: AbortSignal }): Promise<boolean> {
    return readCanAdd(await this.#ask('ask what HAProxy can do', 'help', { signal }));
  }

  /** A path with nothing in it yet. */
  newCertificate(path: string, options: EffectOptions): Promise<void> {
    return this.#changeLists(`add certificate ${path}`, ['new ssl cert', path], options);
  }

  /** Throws `ERR_HAPROXY_REFUSED` while a list names it. */
  deleteCertificate(path: string, options: EffectOptions): Promise<void> {
    return this.#changeLists(`delete certificate ${path}`, ['del ssl cert', path], options);
  }

  /** Its names are those of the certificate. A second line is added where there is one already. */
  addToList(list: string, path: string, options: EffectOptions): Promise<void> {
    return this.#changeLists(`list ${path} in ${list}`, ['add ssl crt-list', list, path], options);
  }

  deleteFromList(list: string, path: string, options: EffectOptions): Promise<void> {
    return this.#changeLists(`take ${path} off ${list}`, ['del ssl crt-list', list, path], options);
  }

  async #changeLists(
    step: string,
    [command = '', ...paths]: readonly string[],
    options: EffectOptions,
  ): Promise<void> {
    const line = [command, ...paths.map((path) => this.#argument(path, step))].join(' ');
    const outcome = readListChange(await this.#ask(step, line, options));
    if (outcome !== 'done') throw this.#refusal(step, outcome);
  }

  #setCommand(path: string, pem: string): string {
    const lines = pem.split(/\r?\n/).filter((line) => line.trim() !== '');
    return `set ssl cert ${this.#argument(path, `set certificate ${path}`)} <<\n${lines.join('\n')}\n`;
  }

  #assertFits(step: string, command: string, bufferBytes: number): void {
    const bytes = Buffer.byteLength(this.#framed(command));
    if (bytes < bufferBytes) return;
    throw new HostError('ERR_HAPROXY_PAYLOAD_TOO_LARGE', {
      host: this.#socket.host,
      step,
      reason: `the command with its bundle has ${bytes} bytes, HAProxy's buffer ${bufferBytes}: nothing was sent`,
      retry: 'never',
      remedy: `set "tune.bufsize ${Math.ceil((bytes + 1) / 16_384) * 16_384}" in the global section of haproxy.cfg and restart HAProxy`,
    });
  }

  async #ask(step: string, command: string, options: AskOptions): Promise<string> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = (await this.#send(step, command, options)).trimEnd();
      if (answer === '') throw this.#refusal(step, readRefusal(answer));
      if (!isLocked(answer) || attempt === LOCKED_ATTEMPTS) return answer;
      await this.#clock.sleep(LOCKED_PAUSE_MS, options);
    }
  }

  /** All in one connection; one for each command where answers cannot be told apart or are locked. */
  async #askLine(
    step: string,
    commands: readonly string[],
    { signal }: { signal: AbortSignal },
  ): Promise<readonly string[]> {
    const line = commands.join(';');
    const together = splitAnswers(
      await this.#lines.run(() => this.#send(step, line, { signal }), { signal }),
    );
    const answered = together.length === commands.length;
    const answers: string[] = [];
    for (const [i, command] of commands.entries()) {
      const answer = answered ? together[i] : undefined;
      const isUsable = answer !== undefined && !isLocked(answer);
      answers.push(isUsable ? answer : await this.#ask(step, command, { signal }));
    }
    return answers;
  }

  async #send(step: string, command: string, options: AskOptions): Promise<string> {
    const raw = await this.#socket.send(step, this.#framed(command), options);
    if (isWhole(raw)) return raw;
    const { host } = this.#socket;
    throw new HostError('ERR_HAPROXY_SOCKET', {
      host,
      step,
      reason: `the answer breaks off after ${Buffer.byteLength(raw)} bytes`,
      retry: 'later',
      remedy: BROKEN_ANSWER_REMEDY,
    });
  }

  /** A path that HAProxy knows and says nothing readable about must not pass for one that it does not know. */
  #certificate(
    step: string,
    path: string,
    answer: string,
    list: CertificateList | undefined,
  ): LoadedCertificate | undefined {
    const certificate = readCertificate(answer);
    if (certificate !== undefined || !list?.paths.includes(path) || isEmptyEntry(answer)) return certificate;
    throw this.#unreadable(`${step}: show ssl cert ${path}`, answer);
  }

  /** `@1` alone addresses the worker for the whole connection, a prefix only one command. */
  #framed(command: string): string {
    const ended = `${command}\n`;
    if (!this.#master) return ended;
    return command.includes('<<') ? `@1 ${ended}quit\n` : `@1;${ended}quit\n`;
  }

  #argument(path: string, step: string): string {
    if (!UNSPEAKABLE.test(path)) return path;
    throw new HostError('ERR_HAPROXY_REFUSED', {
      host: this.#socket.host,
      step,
      reason: `${JSON.stringify(path)} cannot be named on HAProxy's command line`,
      retry: 'never',
      remedy: 'rename the file: no spaces, quotes, backslashes, semicolons or angle brackets in its path',
    });
  }

  #expect<T>(step: string, answer: string, value: T | undefined): T {
    if (value === undefined) throw this.#unreadable(step, answer);
    return value;
  }

  #unreadable(step: string, answer: string): HostError {
    const refusal = readRefusal(answer);
    return this.#refusal(step, { ...refusal, remedy: refusal.remedy ?? UNREADABLE_REMEDY });
  }

  #refusal(step: string, { code, remedy = BROKEN_ANSWER_REMEDY, ...details }: Refusal): HostError {
    return new HostError(code, { host: this.#socket.host, step, remedy, ...details });
  }
}

/** Commands by the line that they are asked in. */
function linesOf(commands: readonly string[], maximumBytes: number): readonly (readonly string[])[] {
  const lines: string[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const command of commands) {
    const added = Buffer.byteLength(command) + 1;
    if (bytes + added > maximumBytes) {
      lines.push([]);
      bytes = 0;
    }
    lines.at(-1)?.push(command);
    bytes += added;
  }
  return lines;
}
