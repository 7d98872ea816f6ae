import { createHash } from 'node:crypto';
import type { PemContent } from '../domain/observation.ts';
import { readBundlePem } from '../domain/x509.ts';

/** What a file holds, and what that is worth to HAProxy. */
export interface KnownContent {
  readonly bytes: Buffer;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly content: PemContent;
}

/** So many that nobody refers to any more are not worth looking for. */
const TOLERATED = 64;

/**
 * What files were found to hold, by SHA-256: the hosts of a pool hold the same, and to read a bundle and its key takes longer
 * than all else of a look at a host. Kept only as long as some host has it.
 */
export class KnownContents {
  readonly #known = new Map<string, WeakRef<KnownContent>>();

  of(bytes: Buffer): KnownContent {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const known = this.#known.get(sha256)?.deref();
    if (known !== undefined) return known;
    const read = { bytes, sha256, content: readBundlePem(bytes.toString('utf8')) };
    this.#forgetLost();
    this.#known.set(sha256, new WeakRef(read));
    return read;
  }

  #forgetLost(): void {
    if (this.#known.size < TOLERATED) return;
    for (const [sha256, ref] of this.#known) if (ref.deref() === undefined) this.#known.delete(sha256);
  }
}
