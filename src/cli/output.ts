import type { Output } from './context.ts';

/**
 * Keeps a reader that went away (`kacme status | head`) from ending the process with a stack. EPIPE is ignored, since
 * what a command changes must be finished all the same; any other error goes to `onError`.
 */
export function tolerateClosedReader(output: Output, onError: (error: Error) => void): void {
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') onError(error);
  });
}

/** Resolves when everything written so far has left, or can leave no more. */
export function flushed(output: Output): Promise<void> {
  return new Promise((resolve) => {
    output.write('', () => resolve());
  });
}

/** Machine-readable results: one JSON document, indented, with a final newline. */
export function writeJson(output: Output, value: unknown): void {
  output.write(`${JSON.stringify(value, undefined, 2)}\n`);
}
