import type { CaaRecord } from '../domain/caa.ts';

/**
 * Reads what Node makes of a CAA record: `{ critical: FLAGS, TAG: VALUE }`, from Node 24 on with `type: 'CAA'`.
 * Undefined for what that form hides: a tag named `critical` stands where the flags were, one named `__proto__`
 * is lost. Whoever gets undefined must not guess.
 */
export function readCaaRecord(record: object): CaaRecord | undefined {
  const { critical: flags, ...properties }: Record<string, unknown> = { ...record };
  if (typeof flags !== 'number') return undefined;
  const entries = Object.entries(properties);
  const own = entries.filter(([name, value]) => name !== 'type' || value !== 'CAA');
  // `type` alone is a tag of that name.
  const [tag, value] = (own.length === 0 ? entries : own)[0] ?? [];
  if (own.length > 1 || tag === undefined || typeof value !== 'string') return undefined;
  return { flags, tag, value };
}
