import type { SuggestedWindow } from './renewal-info.ts';

const DAY_MS = 86_400_000;

/** How long certificates live that are issued from a date on. */
export interface LifetimeRule {
  readonly from: Date;
  readonly lifetimeMs: number;
}

/** Let's Encrypt, "Decreasing Certificate Lifetimes to 45 Days": the profile `classic`. */
export const LETS_ENCRYPT_CLASSIC: readonly LifetimeRule[] = [
  { from: new Date(0), lifetimeMs: 90 * DAY_MS },
  { from: new Date('2027-02-10T00:00:00Z'), lifetimeMs: 64 * DAY_MS },
  { from: new Date('2028-02-16T00:00:00Z'), lifetimeMs: 45 * DAY_MS },
];

/** Lifetime of what is issued at `date`; `rules` in order of time. Throws a RangeError before the first of them. */
export function lifetimeAt(rules: readonly LifetimeRule[], date: Date): number {
  const rule = rules.findLast(({ from }) => from <= date);
  if (rule === undefined) throw new RangeError(`no lifetime is known for ${date.toISOString()}`);
  return rule.lifetimeMs;
}

/**
 * The window that Let's Encrypt suggests when nothing is wrong: a fiftieth of the lifetime to both sides of the point
 * where a third of it is left, half of it when it is under ten days.
 */
export function usualWindow({
  notBefore,
  notAfter,
}: {
  readonly notBefore: Date;
  readonly notAfter: Date;
}): SuggestedWindow {
  const lifetimeMs = notAfter.getTime() - notBefore.getTime();
  const idealMs = notAfter.getTime() - lifetimeMs * (lifetimeMs < 10 * DAY_MS ? 1 / 2 : 1 / 3);
  return {
    start: new Date(Math.round(idealMs - lifetimeMs / 50)),
    end: new Date(Math.round(idealMs + lifetimeMs / 50)),
  };
}
