import * as z from 'zod';
import type { AdoptionFindings, FoundAccount, FoundBundle } from '../ports/adoption-source.ts';

interface Thing<T> {
  readonly where: string;
  readonly read: () => Promise<T>;
}

/** What cannot be read is a problem of its own and keeps nothing else from being found. */
export async function collect(
  bundles: readonly Thing<FoundBundle>[],
  accounts: readonly Thing<FoundAccount>[],
): Promise<AdoptionFindings> {
  const problems: { where: string; reason: string }[] = [];
  const readAll = async <T>(things: readonly Thing<T>[]): Promise<readonly T[]> => {
    const found: T[] = [];
    for (const { where, read } of things) {
      try {
        found.push(await read());
      } catch (error) {
        if (error instanceof Error && error.name === 'AbortError') throw error;
        problems.push({ where, reason: describe(error) });
      }
    }
    return found;
  };
  return { bundles: await readAll(bundles), accounts: await readAll(accounts), problems };
}

function describe(error: unknown): string {
  // The parsers quote their text, which may be a key.
  if (error instanceof SyntaxError) return 'it is not JSON';
  if (error instanceof z.ZodError)
    return error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`).join('; ');
  return error instanceof Error ? error.message : String(error);
}
