import { styleText } from 'node:util';

const WIDEST = 100;
const INDENT = '     ';
const LABEL_WIDTH = 14;

type Format = Parameters<typeof styleText>[0];

export interface NarratorOptions {
  readonly output: NodeJS.WriteStream;
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly signal: AbortSignal;
}

/** Tells what happens: numbered steps, what is run, and what was verified with how long it took. */
export class Narrator {
  readonly #output: NodeJS.WriteStream;
  readonly #colour: boolean;
  readonly #width: number;
  readonly #signal: AbortSignal;
  #steps = 0;

  constructor({ output, env, signal }: NarratorOptions) {
    const { NO_COLOR: noColour = '', TERM: terminal } = env;
    this.#output = output;
    this.#colour = output.isTTY && noColour === '' && terminal !== 'dumb';
    this.#width = Math.min(output.columns ?? WIDEST, WIDEST);
    this.#signal = signal;
  }

  title(text: string): void {
    this.#line(this.#paint(text, 'bold'));
  }

  step(text: string): void {
    this.#steps += 1;
    this.#line('');
    this.#line(this.#paint(`${String(this.#steps).padStart(3)}  ${text}`, 'bold'));
  }

  /** An explanation, wrapped. */
  say(text: string): void {
    for (const line of wrap(text, this.#width - INDENT.length)) this.#line(INDENT + line);
  }

  /** Lines as they are. */
  show(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.#line(`${INDENT}  ${line}`);
  }

  command(text: string): void {
    this.#line(`${INDENT}${this.#paint('$', 'gray')} ${this.#paint(text, 'cyan')}`);
  }

  /**
   * Does `verify`, then says that `what` is so. What it returns is told beside it; what it throws says what
   * was seen instead, and ends the demo.
   */
  async check<T>(what: string, verify: () => Promise<T>, detail?: (result: T) => string): Promise<T> {
    this.#signal.throwIfAborted();
    const startedMs = performance.now();
    const waiting = setTimeout(() => this.#transient(`${INDENT}${this.#paint('·', 'gray')} ${what}`), 150);
    try {
      const result = await verify();
      const told = detail === undefined ? what : `${what}: ${detail(result)}`;
      this.#verdict(this.#paint('✓', 'green'), told, performance.now() - startedMs);
      return result;
    } catch (error) {
      if (!this.#signal.aborted) this.#verdict(this.#paint('✗', 'red'), what, performance.now() - startedMs);
      throw error;
    } finally {
      clearTimeout(waiting);
    }
  }

  /** What was seen instead of what the line above expects, and why. */
  failure(lines: readonly (readonly [label: string, text: string])[]): void {
    for (const [label, text] of lines) {
      const margin = `${INDENT}  `;
      const [first = '', ...rest] = wrap(text, this.#width - margin.length - LABEL_WIDTH);
      this.#line(`${margin}${this.#paint(label.padEnd(LABEL_WIDTH), 'red')}${first}`);
      for (const line of rest) this.#line(`${margin}${' '.repeat(LABEL_WIDTH)}${line}`);
    }
  }

  /** For what another process prints by itself. */
  blank(): void {
    this.#line('');
  }

  #verdict(mark: string, text: string, durationMs: number): void {
    const duration = `${(durationMs / 1000).toFixed(1)} s`;
    const lines = wrap(text, this.#width - INDENT.length - 2 - 9);
    lines.forEach((line, i) => {
      const end = i === lines.length - 1;
      const gap = ' '.repeat(Math.max(2, this.#width - INDENT.length - 2 - line.length - duration.length));
      this.#line(`${INDENT}${i === 0 ? mark : ' '} ${line}${end ? gap + this.#paint(duration, 'gray') : ''}`);
    });
  }

  /** Shown until the next line takes its place; nothing in a pipe. */
  #transient(text: string): void {
    if (this.#colour) this.#output.write(`${text.slice(0, this.#width)}\r`);
  }

  #line(text: string): void {
    // What a transient line left there is erased.
    this.#output.write(`${this.#colour ? '\x1b[2K' : ''}${text}\n`);
  }

  #paint(text: string, format: Format): string {
    return this.#colour ? styleText(format, text, { validateStream: false }) : text;
  }
}

function wrap(text: string, width: number): readonly string[] {
  return text.split('\n').flatMap((paragraph) => {
    const lines = [''];
    for (const word of paragraph.split(' ')) {
      const line = lines.at(-1) ?? '';
      if (line === '') lines[lines.length - 1] = word;
      else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
      else lines.push(word);
    }
    return lines;
  });
}
