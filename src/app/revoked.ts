import { publicKeyHash } from '../domain/x509.ts';
import type { StateStore } from '../ports/state-store.ts';
import { listRecords, type RevocationRecord, revocationRecord } from './records.ts';

/** A revocation with the bundle that it is about, of whatever certificate. */
interface Revoked extends RevocationRecord {
  readonly id: string;
}

/** What is revoked, and what is to be, of every certificate: one key may be in bundles of several. */
export class RevokedBundles {
  readonly #revocations: readonly Revoked[];

  constructor(revocations: readonly Revoked[]) {
    this.#revocations = revocations;
  }

  static async load(
    store: Pick<StateStore, 'list'>,
    options: { signal: AbortSignal },
  ): Promise<RevokedBundles> {
    const records = await listRecords(store, revocationRecord, [], options);
    return new RevokedBundles(
      records.map(({ key, value }) => ({ ...value, id: key.slice(key.lastIndexOf('/') + 1) })),
    );
  }

  /** The public keys (`publicKeyHash`) in them: none is certified again. */
  get keys(): ReadonlySet<string> {
    return new Set(this.#revocations.map(({ publicKey }) => publicKey));
  }

  /** Why a bundle must be on no host; undefined when nothing is known against it. Not every one is held with its key. */
  objectionTo({ id, keyPem }: { readonly id: string; readonly keyPem?: string }): string | undefined {
    const own = this.#revocations.find((revoked) => revoked.id === id);
    if (own !== undefined) return describe(own);
    const compromised = this.#revocations.filter(({ reason }) => reason === 'keyCompromise');
    if (keyPem === undefined || compromised.length === 0) return undefined;
    const publicKey = publicKeyHash(keyPem);
    const other = compromised.find((revoked) => revoked.publicKey === publicKey);
    return other && `its key is compromised: ${other.id.slice(0, 16)} has it and is ${describe(other)}`;
  }
}

function describe({ reason, revokedAt }: RevocationRecord): string {
  return revokedAt === undefined
    ? `to be revoked (${reason}) once it is replaced`
    : `revoked (${reason}) at ${revokedAt}`;
}
