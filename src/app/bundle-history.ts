import { type CertificateFacts, certificatesIn, factsOf } from '../domain/x509.ts';
import type { StateStore } from '../ports/state-store.ts';
import { type BundleRecord, bundleRecord, type CertificateRecord, loadRecord } from './records.ts';

/** Undefined when the certificate has no active bundle, or it was taken out of the store. */
export async function activeBundle(
  store: Pick<StateStore, 'get'>,
  record: CertificateRecord | undefined,
  certificate: string,
  options: { signal: AbortSignal },
): Promise<BundleRecord | undefined> {
  if (record?.active === undefined) return undefined;
  return (await loadRecord(store, bundleRecord, [certificate, record.active], options))?.value;
}

export function leafFacts(chainPem: string): CertificateFacts {
  const leaf = certificatesIn(chainPem)[0];
  if (leaf === undefined) throw new RangeError('a bundle holds at least its leaf');
  return factsOf(leaf);
}

/** Bundles in the history of `before` that `after` does not need: neither active, nor among the `keep` latest of the superseded. */
export function supersededBeyond(
  keep: number,
  before: CertificateRecord | undefined,
  after: CertificateRecord,
): readonly string[] {
  const superseded = after.history.filter((entry) => entry.state === 'superseded');
  const kept = superseded.sort((a, b) => b.generation - a.generation).slice(0, keep);
  const wanted = new Set([after.active, ...kept.map((entry) => entry.bundle)]);
  const held = new Set((before?.history ?? []).map(({ bundle }) => bundle));
  return [...held].filter((id) => !wanted.has(id));
}

/** The certificate's record once `bundle` is its active one. `alsoOwn` went to hosts without being kept. */
export function nextGeneration(
  held: CertificateRecord | undefined,
  bundle: BundleRecord,
  facts: CertificateFacts,
  now: Date,
  alsoOwn: readonly CertificateFacts[] = [],
): CertificateRecord {
  const generation = (held?.generation ?? 0) + 1;
  // An expired certificate is never mistaken for a foreign one: its entry has served its purpose.
  const history = (held?.history ?? [])
    .filter((entry) => now < new Date(entry.notAfter) && entry.bundle !== bundle.id)
    .map((entry) => (entry.state === 'active' ? { ...entry, state: 'superseded' as const } : entry));
  return {
    generation,
    active: bundle.id,
    lastSuccess: bundle.origin === 'acme' ? latest(held?.lastSuccess, bundle.issuedAt) : held?.lastSuccess,
    history: [
      ...history,
      ...alsoOwn.map((other) => ({
        bundle: other.fingerprint256,
        generation,
        fingerprint256: other.fingerprint256,
        fingerprint1: other.fingerprint1,
        state: 'superseded' as const,
        origin: 'adopted' as const,
        notAfter: other.notAfter.toISOString(),
      })),
      {
        bundle: bundle.id,
        generation,
        fingerprint256: facts.fingerprint256,
        fingerprint1: facts.fingerprint1,
        state: 'active',
        origin: bundle.origin,
        notAfter: bundle.notAfter,
      },
    ],
  };
}

/** Of two moments as `Date.toISOString` writes them. */
const latest = (a: string | undefined, b: string): string => (a !== undefined && a > b ? a : b);
