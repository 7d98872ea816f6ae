import { knownExemptions, knownLimits } from '../domain/known-limits.ts';
import { LIMIT_NAMES, type LimitName, type RateLimits } from '../domain/rate-limits.ts';
import { formatDuration } from './duration.ts';

type LimitInput<Duration> = 'none' | { readonly count: number; readonly per: Duration };

/** As written (`per` a text) or as the schema leaves it (`per` in milliseconds). */
type LimitsInput<Duration> = 'none' | Readonly<Partial<Record<LimitName, LimitInput<Duration>>>>;

/** The limits in force at a directory: what is known of its CA, with what the operator says in its place. */
export function resolveLimits(input: LimitsInput<number> | undefined, directory: string): RateLimits {
  if (input === 'none') return {};
  const known = knownLimits(directory);
  return Object.fromEntries(
    LIMIT_NAMES.flatMap((name) => {
      const said = input?.[name];
      if (said === 'none') return [];
      const spares = knownExemptions(directory, name);
      const limit = said && { capacity: said.count, refillMs: said.per / said.count, spares };
      const inForce = limit ?? known[name];
      return inForce === undefined ? [] : [[name, inForce]];
    }),
  );
}

/** The other way round: `resolveLimits` makes the same of it. */
export function describeLimits(limits: RateLimits, directory: string): LimitsInput<string> {
  const known = knownLimits(directory);
  const described = LIMIT_NAMES.flatMap((name): [LimitName, LimitInput<string>][] => {
    const limit = limits[name];
    if (limit === undefined) return known[name] === undefined ? [] : [[name, 'none']];
    const { capacity, refillMs } = limit;
    return [[name, { count: capacity, per: formatDuration(Math.round(capacity * refillMs)) }]];
  });
  return Object.keys(limits).length === 0 ? 'none' : Object.fromEntries(described);
}
