/**
 * Retry-After (RFC 9110 section 10.2.3), seconds or an HTTP date, as a moment. Undefined when it is absent or
 * means nothing; a moment that has passed is `now`.
 */
export function parseRetryAfter(value: string | undefined, now: Date): Date | undefined {
  const text = value?.trim() ?? '';
  if (/^\d{1,9}$/.test(text)) return new Date(now.getTime() + Number(text) * 1_000);
  // Every form of HTTP-date names its weekday; Date.parse alone would take "-5" for a year.
  if (!/^[A-Z][a-z]{2,8},? /.test(text)) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : new Date(Math.max(ms, now.getTime()));
}
