import { X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';

/** Counts over all hosts of one process. */
export interface HaproxyCounts {
  /** `show info`: each look at a host asks it once. */
  looks: number;
}

interface Loaded {
  readonly pem: string;
  readonly shown: string;
}

/**
 * HAProxy's certificates and the commands for them (management.txt section 9.3), in the words of HAProxy 2.6: one
 * transaction for the whole process.
 */
export class SimulatedHaproxy {
  readonly #loaded = new Map<string, Loaded>();
  readonly #counts: HaproxyCounts;
  readonly #onCommit: (pem: string) => void;
  readonly #startedMs = Date.now();
  #pending: { readonly path: string; readonly loaded: Loaded } | undefined;

  constructor(
    { path, pem }: { path: string; pem: string },
    { counts, onCommit }: { counts: HaproxyCounts; onCommit: (pem: string) => void },
  ) {
    this.#loaded.set(path, { pem, shown: show(pem) });
    this.#counts = counts;
    this.#onCommit = onCommit;
  }

  /** One connection to the stats socket: one line of commands, or one command with a payload, and its answers. */
  serve(stream: Duplex): void {
    let request = '';
    stream.on('data', (chunk: Buffer) => {
      request += chunk.toString('utf8');
      const complete = request.includes('<<\n') ? request.endsWith('\n\n') : request.endsWith('\n');
      if (complete) stream.end(this.#answerAll(request));
    });
  }

  #answerAll(request: string): string {
    const [line = '', ...payload] = request.split('\n');
    if (line.endsWith('<<')) return `${this.#set(line, payload.join('\n'))}\n`;
    return line
      .split(';')
      .map((command) => `${this.#answer(command.trim())}\n`)
      .join('');
  }

  #answer(command: string): string {
    const path = command.split(' ').at(-1) ?? '';
    if (command === 'show info') {
      this.#counts.looks += 1;
      const uptime = Math.floor((Date.now() - this.#startedMs) / 1_000);
      return `Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: ${process.pid}\nUptime_sec: ${uptime}\nStopping: 0\n`;
    }
    if (command === 'show pools')
      return '  - Pool buffer (16384 bytes) : 4 allocated (65536 bytes), 3 used\n';
    if (command === 'show ssl cert') {
      const pending = this.#pending === undefined ? '' : `# transaction\n*${this.#pending.path}\n`;
      return `${pending}# filename\n${[...this.#loaded.keys()].join('\n')}\n`;
    }
    if (command.startsWith('show ssl cert *')) return this.#pending?.loaded.shown ?? "Can't find it.\n";
    if (command.startsWith('show ssl cert ')) {
      return this.#loaded.get(path)?.shown ?? "Can't display the certificate: Not found!\n";
    }
    if (command.startsWith('commit ssl cert ')) return this.#commit();
    if (command.startsWith('abort ssl cert ')) {
      if (this.#pending === undefined) return 'No ongoing transaction!\n';
      this.#pending = undefined;
      return `Transaction aborted for certificate '${path}'!\n`;
    }
    return `Unknown command: '${command}'\n`;
  }

  #set(line: string, pem: string): string {
    const path = /^set ssl cert (\S+) <<$/.exec(line)?.[1];
    if (path === undefined) return 'Unknown command\n';
    const done = this.#pending === undefined ? 'created' : 'updated';
    this.#pending = { path, loaded: { pem, shown: show(pem) } };
    return `Transaction ${done} for certificate ${path}!\n`;
  }

  #commit(): string {
    if (this.#pending === undefined) return 'No ongoing transaction! !\n';
    const { path, loaded } = this.#pending;
    this.#pending = undefined;
    this.#loaded.set(path, loaded);
    this.#onCommit(loaded.pem);
    return `Committing ${path}.\nSuccess!\n`;
  }
}

/** Every host gets the same bundle: its text is made once. */
const shownPems = new Map<string, string>();

function show(pem: string): string {
  const known = shownPems.get(pem);
  if (known !== undefined) return known;
  const leaf = new X509Certificate(pem);
  const name = (lines: string) => `/${lines.replaceAll('\n', '/')}`;
  const shown = [
    'Status: Used',
    `Serial: ${leaf.serialNumber}`,
    `notBefore: ${leaf.validFrom}`,
    `notAfter: ${leaf.validTo}`,
    `SHA1 FingerPrint: ${leaf.fingerprint.replaceAll(':', '')}`,
    `Subject: ${name(leaf.subject ?? '')}`,
    `Issuer: ${name(leaf.issuer)}`,
  ].join('\n');
  shownPems.set(pem, `${shown}\n`);
  return `${shown}\n`;
}
