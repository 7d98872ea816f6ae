import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { namesIn } from './durable-files.ts';

/** Below the store's root: one entry per granted epoch, see `SocketLeadership`. */
export function lockDirectory(root: string): string {
  return join(root, 'lock');
}

/** The epochs among the names of a lock directory, highest first. */
export function epochsAmong(names: readonly string[]): readonly number[] {
  return names
    .filter((name) => /^[1-9]\d{0,14}$/.test(name))
    .map(Number)
    .sort((a, b) => b - a);
}

/** The last epoch that was granted under this root; 0 when none ever was. */
export async function highestEpoch(root: string): Promise<number> {
  return epochsAmong(await namesIn(lockDirectory(root)))[0] ?? 0;
}

/** The same for `Mandate.assertHeld`, which cannot wait; takes some 20 microseconds on a local file system. */
export function highestEpochNow(root: string): number {
  return epochsAmong(readdirSync(lockDirectory(root)))[0] ?? 0;
}
