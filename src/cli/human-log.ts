import type { DestinationStream } from 'pino';
import type { Output } from './context.ts';
import { oneLine, paint, type Tone, type View } from './render/style.ts';

const LEVEL_TONES: Readonly<Record<string, Tone>> = {
  trace: 'faint',
  debug: 'faint',
  warn: 'warning',
  error: 'bad',
  fatal: 'bad',
};

/** Turns each JSON line of the log into `12:34:56 INFO  message  field=value ...` for a person at a terminal. */
export function humanLog(output: Output, view: View): DestinationStream {
  return {
    write: (line) => {
      output.write(renderLogLine(line, view));
    },
  };
}

/** Exported for its test. What is not a JSON object is passed on as it is. */
export function renderLogLine(line: string, view: View): string {
  const event = parseEvent(line);
  if (event === undefined) return line;
  const { time, level, msg, err, ...fields } = event;
  const label = String(level);
  const shown = Object.entries(fields).map(([name, value]) =>
    paint(`${name}=${render(value)}`, 'faint', view),
  );
  const head = [
    paint(String(time).slice(11, 19), 'faint', view),
    paint(label.toUpperCase().padEnd(5), LEVEL_TONES[label], view),
    oneLine(String(msg ?? '')),
  ].join(' ');
  return `${[head, ...shown].join('  ')}\n${isRecord(err) ? renderError(err) : ''}`;
}

function renderError({ code, message, remedy, causes, stack }: Readonly<Record<string, unknown>>): string {
  const lines = [`  ${oneLine(String(code))}: ${oneLine(String(message))}`];
  if (typeof remedy === 'string') lines.push(`  what to do: ${oneLine(remedy)}`);
  for (const cause of Array.isArray(causes) ? causes : []) {
    if (!isRecord(cause)) continue;
    const { message: reason } = cause;
    lines.push(`  because: ${oneLine(String(reason))}`);
  }
  if (typeof stack === 'string')
    lines.push(
      ...stack
        .split('\n')
        .slice(1)
        .map((frame) => `  ${oneLine(frame)}`),
    );
  return `${lines.join('\n')}\n`;
}

function render(value: unknown): string {
  if (typeof value === 'string') return /[\s"=]/.test(value) || value === '' ? JSON.stringify(value) : value;
  return JSON.stringify(value);
}

function parseEvent(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return isRecord(event) ? event : undefined;
  } catch {
    // Whoever wrote it, a person can still read it.
    return undefined;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
