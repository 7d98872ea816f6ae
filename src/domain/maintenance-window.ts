export const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;

const NAMES: readonly string[] = WEEKDAYS;

export type Weekday = (typeof WEEKDAYS)[number];

/** When HAProxy may be reloaded, by the clock on the wall of a time zone. One that ends before it begins goes past midnight. */
export interface MaintenanceWindow {
  /** Days on which it begins. */
  readonly days: readonly Weekday[];
  /** Minutes after midnight. */
  readonly fromMinute: number;
  /** Minutes after midnight, the first one outside again. */
  readonly toMinute: number;
  /** IANA name, such as `Europe/Berlin`. */
  readonly timezone: string;
}

/** No window is shorter, so that none is stepped over. */
export const SHORTEST_WINDOW_MINUTES = 15;

const MINUTE_MS = 60_000;
const DAY_MINUTES = 1_440;
/** A window that the change to summer time swallows comes again a week later. */
const LONGEST_WAIT_MINUTES = 15 * DAY_MINUTES;

/** Undefined while the window is open; else when it opens next, to the minute. */
export function nextOpening(window: MaintenanceWindow, now: Date): Date | undefined {
  const isOpen = openAt(window);
  if (isOpen(now.getTime())) return undefined;
  const base = Math.floor(now.getTime() / MINUTE_MS) * MINUTE_MS;
  let minutes = 0;
  while (minutes < LONGEST_WAIT_MINUTES && !isOpen(base + minutes * MINUTE_MS))
    minutes += SHORTEST_WINDOW_MINUTES;
  while (minutes > 1 && isOpen(base + (minutes - 1) * MINUTE_MS)) minutes -= 1;
  return new Date(base + minutes * MINUTE_MS);
}

export function lengthMinutes({ fromMinute, toMinute }: Pick<MaintenanceWindow, 'fromMinute' | 'toMinute'>) {
  return (toMinute - fromMinute + DAY_MINUTES) % DAY_MINUTES;
}

function openAt(window: MaintenanceWindow): (ms: number) => boolean {
  const { days, fromMinute, toMinute, timezone } = window;
  const wall = new Intl.DateTimeFormat('en-GB', {
    timeZone: timezone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  return (ms) => {
    const parts = new Map(wall.formatToParts(ms).map(({ type, value }) => [type, value]));
    const minute = Number(parts.get('hour')) * 60 + Number(parts.get('minute'));
    const today = NAMES.indexOf(parts.get('weekday')?.toLowerCase() ?? '');
    const begins = (day: number) => days.some((one) => one === WEEKDAYS[(day + 7) % 7]);
    if (fromMinute < toMinute) return begins(today) && minute >= fromMinute && minute < toMinute;
    return (begins(today) && minute >= fromMinute) || (begins(today - 1) && minute < toMinute);
  };
}
