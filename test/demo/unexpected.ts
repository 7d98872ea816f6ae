/** What a step saw instead of what it expected. */
export class Unexpected extends Error {
  override readonly name = 'Unexpected';
}

/** Every message from an error down to its last cause: what was seen, and what led to it. */
export function reasonsOf(error: unknown): readonly string[] {
  const reasons: string[] = [];
  let next = error;
  while (next !== undefined && reasons.length < 5) {
    reasons.push((next instanceof Error ? next.message : String(next)).trim());
    next = next instanceof Error ? next.cause : undefined;
  }
  return reasons;
}
