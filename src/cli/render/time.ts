const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** The largest whole unit that fits: `61 d`, `5 h`, `12 min`, `40 s`. Takes milliseconds of either sign. */
export function renderDuration(durationMs: number): string {
  const ms = Math.abs(durationMs);
  if (ms >= 2 * DAY_MS) return `${Math.floor(ms / DAY_MS)} d`;
  if (ms >= 2 * HOUR_MS) return `${Math.floor(ms / HOUR_MS)} h`;
  if (ms >= 2 * MINUTE_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  return `${Math.floor(ms / 1000)} s`;
}

/** `in 61 d` or `3 d ago`, seen from `now`; `-` for no date. */
export function renderRelative(date: string | undefined, now: Date): string {
  if (date === undefined) return '-';
  const distanceMs = Date.parse(date) - now.getTime();
  return distanceMs >= 0 ? `in ${renderDuration(distanceMs)}` : `${renderDuration(distanceMs)} ago`;
}

const ISO_DATE = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** A text whose dates are as `renderMoment` has them: nobody plans by the millisecond. */
export function withShortDates(text: string): string {
  return text.replace(ISO_DATE, (date) => (Number.isNaN(Date.parse(date)) ? date : renderMoment(date)));
}

/** A text that says how far its first date is away, if it has one. */
export function withDistance(text: string, now: Date): string {
  const [date] = text.match(ISO_DATE) ?? [];
  return date === undefined ? text : `${text} (${renderRelative(date, now)})`;
}

/** `2026-03-01 12:00Z`: to the minute, in UTC, never in the reader's zone; `-` for no date. */
export function renderMoment(date: string | undefined): string {
  return date === undefined ? '-' : `${new Date(date).toISOString().slice(0, 16).replace('T', ' ')}Z`;
}
