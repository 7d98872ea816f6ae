import { setTimeout as sleep } from 'node:timers/promises';

const DEFAULT_TIMEOUT_MS = 30_000;

/**
 * Asks again and again until `probe` answers something other than undefined or false. Throws after `timeoutMs`
 * (30 s, against hanging: a busy machine takes its time) with `what` and the last error of the probe.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  let cause: unknown;
  for (let waitMs = 2; performance.now() < deadline; waitMs = Math.min(waitMs * 2, 50)) {
    options.signal?.throwIfAborted();
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    await sleep(waitMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
  throw new Error(`not within ${options.timeoutMs ?? DEFAULT_TIMEOUT_MS} ms: ${what}`, { cause });
}
