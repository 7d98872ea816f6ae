import * as z from 'zod';
import { lengthMinutes, SHORTEST_WINDOW_MINUTES, WEEKDAYS } from '../domain/maintenance-window.ts';
import { oneOf, parsed, section } from './fields.ts';

const TIME_EXPECTED = 'a time of day in quotes, such as "02:00"';

/** Minutes after midnight. */
const time = () =>
  parsed(TIME_EXPECTED, (clock) => {
    const [, hours, minutes] = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(clock) ?? [];
    if (hours === undefined || minutes === undefined) return { problem: `expected ${TIME_EXPECTED}` };
    return { value: Number(hours) * 60 + Number(minutes) };
  });

/** `pools.NAME.maintenanceWindow`. */
export const Maintenance = section(
  {
    days: z
      .array(oneOf(WEEKDAYS), { error: `expected a list of ${WEEKDAYS.join(', ')}` })
      .min(1, 'expected at least one day')
      .describe('Days on which it begins.'),
    from: time().describe('When it begins.'),
    to: time().describe('When it ends; on the next day if that is earlier.'),
    timezone: parsed('the name of a time zone, such as Europe/Berlin', (name) =>
      isTimeZone(name)
        ? { value: name }
        : { problem: `expected the name of a time zone, such as Europe/Berlin; nobody knows "${name}"` },
    )
      .prefault('UTC')
      .describe('Whose time of day that is.'),
  },
  { expected: '{ days: [sat, sun], from: "02:00", to: "04:00", timezone: Europe/Berlin }' },
)
  .refine(({ from, to }) => lengthMinutes({ fromMinute: from, toMinute: to }) >= SHORTEST_WINDOW_MINUTES, {
    error: `expected a window of at least ${SHORTEST_WINDOW_MINUTES} minutes`,
    path: ['to'],
  })
  .describe('When HAProxy may be reloaded for a certificate; a swap needs no window.');

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }) !== undefined;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}
