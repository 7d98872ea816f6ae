import type { Logger } from 'pino';
import { decideKey } from '../domain/key-reuse.ts';
import type { CertificateSpec } from '../domain/model.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { BundleRecord } from './records.ts';
import { RevokedBundles } from './revoked.ts';

/** The key of the bundle in use, where the next order is to keep it; undefined asks for a new one. */
export async function reusedKey(
  spec: CertificateSpec,
  held: BundleRecord | undefined,
  { store, log }: { readonly store: Pick<StateStore, 'list'>; readonly log: Logger },
  options: { signal: AbortSignal },
): Promise<string | undefined> {
  if (!spec.reuseKey) return undefined;
  const decision = decideKey(spec, held, (await RevokedBundles.load(store, options)).keys);
  if (decision.reuse) return decision.keyPem;
  log.info({ reason: decision.reason }, 'key not reused: a new one is made');
  return undefined;
}
