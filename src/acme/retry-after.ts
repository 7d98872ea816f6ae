/** No CA's limit lasts longer, and nobody who mistook the unit shall keep a certificate from being renewed. */
const LONGEST_MS = 7 * 86_400_000;

/**
 * Retry-After (RFC 9110 section 10.2.3), seconds or an HTTP date, as a moment. Undefined when it is absent or
 * means nothing; a moment that has passed is `now`, one that is more than 7 days away is in 7 days.
 */
export function parseRetryAfter(value: string | undefined, now: Date): Date | undefined {
  const text = value?.trim() ?? '';
  const delayMs = /^\d+$/.test(text) ? Number(text) * 1_000 : untilHttpDateMs(text, now);
  if (delayMs === undefined) return undefined;
  return new Date(now.getTime() + Math.min(Math.max(delayMs, 0), LONGEST_MS));
}

function untilHttpDateMs(text: string, now: Date): number | undefined {
  // Every form of HTTP-date names its weekday; Date.parse alone would take "-5" for a year.
  if (!/^[A-Z][a-z]{2,8},? /.test(text)) return undefined;
  const ms = Date.parse(text) - now.getTime();
  return Number.isNaN(ms) ? undefined : ms;
}
