import type { CertificateSpec } from './model.ts';
import { keyTypeOf, publicKeyHash } from './x509.ts';

/** The bundle in use, as far as its key is concerned. */
export interface HeldKey {
  readonly origin: 'acme' | 'self-signed' | 'adopted';
  readonly keyPem: string;
}

export type KeyDecision =
  | { readonly reuse: true; readonly keyPem: string }
  | { readonly reuse: false; readonly reason: string };

/**
 * Which key the next order of a certificate is finalized with. `revoked` are the public keys that must never be
 * certified again (`publicKeyHash`).
 */
export function decideKey(
  spec: Pick<CertificateSpec, 'key' | 'reuseKey'>,
  held: HeldKey | undefined,
  revoked: ReadonlySet<string>,
): KeyDecision {
  if (!spec.reuseKey) return { reuse: false, reason: 'reuseKey is off' };
  if (held === undefined) return { reuse: false, reason: 'no bundle is held' };
  // Nobody has pinned it, and it was made before anybody had looked at the configuration.
  if (held.origin === 'self-signed') return { reuse: false, reason: 'the bundle in use is only self-signed' };
  const type = keyTypeOf(held.keyPem);
  if (type !== spec.key) return { reuse: false, reason: `the key in use is of type ${type ?? 'unknown'}` };
  if (revoked.has(publicKeyHash(held.keyPem)))
    return { reuse: false, reason: 'a certificate with the key in use is revoked, or to be' };
  return { reuse: true, keyPem: held.keyPem };
}
