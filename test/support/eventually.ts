import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Asks again and again until `probe` answers something other than undefined or false. Throws after `timeoutMs`
 * (10 s) with `what` and the last error of the probe.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | Promise<T>,
  options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + (options.timeoutMs ?? 10_000);
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
  throw new Error(`not within ${options.timeoutMs ?? 10_000} ms: ${what}`, { cause });
}
