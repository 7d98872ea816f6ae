import type { Duplex } from 'node:stream';

/** A process with 10,000 certificates lists them in about 1 MB. */
const ANSWER_LIMIT_BYTES = 16 * 1024 * 1024;

/**
 * Writes `request` to a fresh connection and resolves to everything that comes back until the peer ends it.
 * The stream is destroyed in any case. Rejects with `signal.reason`, with what `beforeSend` throws (nothing is sent
 * then), with the stream's own error, or with an Error when the answer breaks off, is too large, or is not complete
 * after `timeoutMs`.
 *
 * Events rather than async iteration: a channel forwarded over SSH does not pass an error through `destroy`.
 */
export async function exchange(
  stream: Duplex,
  request: string,
  { timeoutMs, beforeSend, signal }: { timeoutMs: number; beforeSend?: () => void; signal: AbortSignal },
): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      // Stays after the promise is settled: what a destroyed stream still reports is of no use to anybody.
      stream.on('error', reject);
      onAbort = () => reject(signal.reason);
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      timer = setTimeout(() => reject(new Error(`HAProxy did not answer within ${timeoutMs} ms`)), timeoutMs);
      const chunks: Buffer[] = [];
      let bytes = 0;
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes <= ANSWER_LIMIT_BYTES) chunks.push(chunk);
        else reject(new Error(`the answer is longer than ${ANSWER_LIMIT_BYTES} bytes`));
      });
      stream.once('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
      stream.once('close', () => reject(new Error('the connection closed before the answer was complete')));
      beforeSend?.();
      stream.write(request);
    });
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
    stream.destroy();
  }
}
