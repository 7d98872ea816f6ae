import { auditExpiry, auditLimits } from './calendar-audit.ts';
import type { Calendar, CalendarRequest } from './calendar-model.ts';
import { Simulation } from './calendar-simulation.ts';

/**
 * Plans certificates over days on a virtual clock: the decisions are those of the service, the outcome is audited
 * apart from them. Deterministic for a given `uniform`.
 */
export function planCalendar(request: CalendarRequest): Calendar {
  const slices = planCalendarInSlices(request);
  for (;;) {
    const slice = slices.next();
    if (slice.done === true) return slice.value;
  }
}

/** The same, with a pause every few milliseconds: the plan of ten thousand certificates takes seconds. */
export function* planCalendarInSlices(request: CalendarRequest): Generator<undefined, Calendar> {
  const simulation = new Simulation(request);
  yield* simulation.run();
  const { days, orders, peakInFlight, lastHeld, end } = simulation;
  const limits = auditLimits(orders, request);
  yield;
  const expiry = auditExpiry(orders, lastHeld, end);
  return {
    days,
    orders,
    peaks: limits.peaks,
    peakInFlight,
    tightest: expiry.tightest,
    unissued: request.certificates.map(({ spec }) => spec.name).filter((name) => !lastHeld.has(name)),
    violations: [...limits.violations, ...expiry.violations],
  };
}
