import * as z from 'zod';
import { keyFamilyOf } from '../domain/dual.ts';
import { oneOf, section } from './fields.ts';

const KEY_TYPES = ['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'] as const;

const PAIR = 'one ECDSA and one RSA type for a dual certificate, such as [ecdsa-p256, rsa-2048]';

const KeyType = oneOf(KEY_TYPES);

/** One key type, or the two of a dual certificate, the first of which keeps the certificate's name in the store. */
export const KeyTypes = z.union(
  [
    KeyType,
    z
      .array(KeyType)
      .refine((types) => types.length === 2 && new Set(types.map(keyFamilyOf)).size === 2, {
        error: `expected ${PAIR}`,
      })
      .meta({ minItems: 2, maxItems: 2 }),
  ],
  { error: (issue) => firstProblem(issue) ?? `expected a key type, or ${PAIR}` },
);

/** `value`, or for a dual certificate one for each key family. */
export function perFamily<Value extends z.ZodType>(value: Value, example: string) {
  const expected = `{ ecdsa: ${example}, rsa: ${example} } for a dual certificate`;
  const half = (family: string) => value.describe(`For the ${family} half of a dual certificate.`);
  const pair = section({ ecdsa: half('ECDSA'), rsa: half('RSA') }, { expected });
  return z.union([value, pair], { error: (issue) => firstProblem(issue) ?? `expected ${expected}` });
}

/** What the first branch of a union says: that is the usual way to write it. */
function firstProblem(issue: z.core.$ZodRawIssue): string | undefined {
  return issue.code === 'invalid_union' ? issue.errors[0]?.[0]?.message : undefined;
}
