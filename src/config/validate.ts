import type * as z from 'zod';
import type { KacmeConfig } from '../domain/model.ts';
import type { ConfigPath } from './issue.ts';
import { resolveConfig } from './resolve.ts';
import { checkRules } from './rules.ts';
import { ConfigFile } from './schema.ts';
import type { Mistake } from './tree.ts';

export type Validation = { readonly config: KacmeConfig } | { readonly mistakes: readonly Mistake[] };

/**
 * Judges bare values. `complete: false` says that a part could not be read: then nothing is called missing or
 * unknown by reference.
 */
export function validate(plain: unknown, { complete }: { complete: boolean }): Validation {
  const outcome = ConfigFile.safeParse(plain);
  const refused = outcome.success ? [] : outcome.error.issues.flatMap((issue) => mistakesOf(issue, plain));
  const mistakes = complete
    ? [...refused, ...checkRules(plain)]
    : refused.filter(({ missing }) => missing !== true);
  if (outcome.success && mistakes.length === 0) return { config: resolveConfig(outcome.data) };
  return { mistakes };
}

type FoundMistake = Mistake & { readonly missing?: boolean };

function mistakesOf(issue: z.core.$ZodIssue, plain: unknown, around: ConfigPath = []): FoundMistake[] {
  const path = [...around, ...issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step))];
  if (issue.code === 'unrecognized_keys') {
    const messages = issue.message.split('\n');
    return issue.keys.map((key, index) => ({
      path: [...path, key],
      of: 'key',
      message: messages[index] ?? '',
    }));
  }
  if (issue.code === 'invalid_key') {
    return [{ path, of: 'key', message: issue.issues[0]?.message ?? issue.message }];
  }
  if (valueAt(plain, path) === undefined) {
    return [{ path, message: `is required: ${issue.message}`, missing: true }];
  }
  const branch = issue.code === 'invalid_union' ? issue.errors.find(wasMeant) : undefined;
  if (branch) return branch.flatMap((inner) => mistakesOf(inner, plain, path));
  return [{ path, message: issue.message }];
}

/** The branch of a union whose shape the value has: what is wrong with it lies deeper. */
function wasMeant(issues: readonly z.core.$ZodIssue[]): boolean {
  return issues.some(({ code, path }) => path.length > 0 || code === 'unrecognized_keys');
}

function valueAt(plain: unknown, path: ConfigPath): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === 'object' && value !== null && Object.hasOwn(value, step)
        ? Reflect.get(value, step)
        : undefined,
    plain,
  );
}
