import type { Logger } from 'pino';
import { decideKey } from '../domain/key-reuse.ts';
import type { CertificateSpec } from '../domain/model.ts';
import type { StateStore } from '../ports/state-store.ts';
import { type BundleRecord, listRecords, revocationRecord } from './records.ts';

/** The key of the bundle in use, where the next order is to keep it; undefined asks for a new one. */
export async function reusedKey(
  spec: CertificateSpec,
  held: BundleRecord | undefined,
  { store, log }: { readonly store: Pick<StateStore, 'list'>; readonly log: Logger },
  options: { signal: AbortSignal },
): Promise<string | undefined> {
  if (!spec.reuseKey) return undefined;
  const decision = decideKey(spec, held, await revokedKeys(store, options));
  if (decision.reuse) return decision.keyPem;
  log.info({ reason: decision.reason }, 'key not reused: a new one is made');
  return undefined;
}

/** The public keys (`publicKeyHash`) of bundles that are revoked, or to be: none of them is certified again. */
export async function revokedKeys(
  store: Pick<StateStore, 'list'>,
  options: { signal: AbortSignal },
): Promise<ReadonlySet<string>> {
  const revocations = await listRecords(store, revocationRecord, [], options);
  return new Set(revocations.map(({ value }) => value.publicKey));
}
