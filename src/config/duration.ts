const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

type Unit = keyof typeof UNIT_MS;

/** A whole number and a unit, so that nobody has to guess what `30` meant. */
export const DURATION = /^\d{1,9}(?:ms|s|m|h|d)$/;

/** Milliseconds of a text that matches `DURATION`. */
export function parseDuration(text: string): number {
  const unit = /[a-z]+$/.exec(text)?.[0] ?? '';
  return Number.parseInt(text, 10) * (isUnit(unit) ? UNIT_MS[unit] : Number.NaN);
}

/** In the largest unit that leaves a whole number: 20000 becomes `20s`. */
export function formatDuration(ms: number): string {
  const units = Object.entries(UNIT_MS).toReversed();
  const [unit, size] = units.find(([, size]) => ms % size === 0) ?? ['ms', 1];
  return `${ms / size}${unit}`;
}

function isUnit(text: string): text is Unit {
  return Object.hasOwn(UNIT_MS, text);
}
