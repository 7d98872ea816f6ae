import type { CaaRecord } from '../domain/caa.ts';

/**
 * Reads what Node makes of a CAA record: `{ critical: FLAGS, TAG: VALUE }`, from Node 24 on with `type: 'CAA'`.
 * Undefined for what that form hides: a tag named `critical` stands where the flags were, one named `__proto__`
 * is lost, and one named `type` with the value `CAA` looks like that. Whoever gets undefined must not guess.
 */
export function readCaaRecord(record: object): CaaRecord | undefined {
  const { critical: flags, ...properties }: Record<string, unknown> = { ...record };
  const own = Object.entries(properties).filter(([name, value]) => name !== 'type' || value !== 'CAA');
  const [tag, value] = own[0] ?? [];
  if (own.length !== 1 || tag === undefined || typeof flags !== 'number' || typeof value !== 'string')
    return undefined;
  return { flags, tag, value };
}
