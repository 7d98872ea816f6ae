import type { FormerBundle } from './rollback.ts';
import type { PlaceState } from './status.ts';

/** Reasons by the names of RFC 5280 section 5.3.1 that CAs take from subscribers, with their codes. */
export const REASON_CODES = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
} as const;

export type RevocationReason = keyof typeof REASON_CODES;

export const REVOCATION_REASONS = Object.keys(REASON_CODES) as readonly RevocationReason[];

/** What `kacme revoke` is asked for. */
export interface RevokeRequest {
  readonly certificate: string;
  readonly reason: RevocationReason;
  /** Issue and distribute first, with a new key. */
  readonly replace: boolean;
  /** Which bundle: SHA-256 of the leaf, or its beginning; undefined: the active one. */
  readonly fingerprint: string | undefined;
  /** Who signs the request. The certificate's key also does when the account cannot. */
  readonly signedBy: 'account' | 'certificate-key';
}

/** One place of a certificate whose former bundle is to be revoked. */
export interface SuccessorPlace {
  readonly host: string;
  readonly reachable: boolean;
  readonly state: PlaceState;
}

export type RevocationDecision =
  | { readonly action: 'revoke'; readonly reason: string }
  | { readonly action: 'wait'; readonly reason: string };

/**
 * Whether a replaced bundle may be revoked now. No client may be shown what is revoked, so every place has to have let go
 * of it. A host that cannot be reached may still show it: it is waited for, save when the key is compromised, since
 * whoever has it harms more than a host that nobody reaches.
 */
export function decideRevocation(
  reason: RevocationReason,
  places: readonly SuccessorPlace[],
): RevocationDecision {
  const behind = places.filter(({ state }) => !LET_GO.has(state));
  const hesitant = behind.filter(({ reachable }) => reachable);
  if (hesitant.length > 0) return { action: 'wait', reason: `${namesOf(hesitant)} may still present it` };
  if (behind.length === 0) return { action: 'revoke', reason: 'every host has its successor' };
  if (reason === 'keyCompromise')
    return {
      action: 'revoke',
      reason: `the key is compromised, so ${namesOf(behind)} cannot be waited for`,
    };
  return { action: 'wait', reason: `${namesOf(behind)} cannot be reached and may still present it` };
}

/** A foreign certificate is not the one that is revoked; a stopped HAProxy has the successor in its file. */
const LET_GO: ReadonlySet<PlaceState> = new Set(['in sync', 'unverified', 'file only', 'foreign']);

const namesOf = (places: readonly SuccessorPlace[]): string =>
  [...new Set(places.map(({ host }) => host))].join(', ');

export type RevocationTarget =
  | { readonly action: 'revoke'; readonly id: string }
  | { readonly action: 'refuse'; readonly reason: string };

/**
 * Which bundle is meant: by its fingerprint or the beginning of it, else the one that is being replaced already
 * (`pending`), else the active one.
 */
export function findRevocationTarget(
  history: readonly FormerBundle[],
  active: string | undefined,
  { fingerprint, pending }: { fingerprint: string | undefined; pending: string | undefined },
  now: Date,
): RevocationTarget {
  const wanted = fingerprint?.replaceAll(':', '').toLowerCase() ?? pending ?? active;
  if (wanted === undefined) return { action: 'refuse', reason: 'no certificate is held' };
  const found = history.filter(({ id }) => id.startsWith(wanted));
  const [bundle, rival] = found;
  if (bundle === undefined) {
    const known = history.map(({ id }) => id.slice(0, 16)).join(', ');
    return {
      action: 'refuse',
      reason: `no bundle has a fingerprint that begins with ${wanted}; there are ${known}`,
    };
  }
  if (rival !== undefined)
    return {
      action: 'refuse',
      reason: `${wanted} is the beginning of several fingerprints: give more of it`,
    };
  const what = bundle.id.slice(0, 16);
  if (bundle.origin === 'self-signed')
    return { action: 'refuse', reason: `${what} is self-signed: no CA knows it` };
  if (bundle.held === undefined)
    return { action: 'refuse', reason: `${what} is not held any more: kacme has destroyed it` };
  if (now >= bundle.notAfter)
    return { action: 'refuse', reason: `${what} expired at ${bundle.notAfter.toISOString()}` };
  return { action: 'revoke', id: bundle.id };
}
