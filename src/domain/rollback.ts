/** What a certificate's history tells of one of its bundles. */
export interface FormerBundle {
  /** SHA-256 of the leaf's DER, lower-case hex. */
  readonly id: string;
  readonly generation: number;
  readonly state: 'active' | 'superseded' | 'revoked';
  readonly origin: 'acme' | 'self-signed' | 'adopted';
  readonly notAfter: Date;
  /** What is still held of it; undefined when its key was destroyed. */
  readonly held: { readonly identifiers: readonly string[]; readonly issuedAt: Date } | undefined;
}

export type RollbackDecision =
  | { readonly action: 'roll back'; readonly to: string; readonly reason: string }
  | { readonly action: 'refuse'; readonly reason: string };

export interface RollbackRequest {
  readonly history: readonly FormerBundle[];
  /** The configured identifiers, against which coverage is measured. */
  readonly identifiers: readonly string[];
  /** A fingerprint or its beginning, as the operator gave it; undefined: the bundle issued last before the active one. */
  readonly to: string | undefined;
}

/**
 * Which bundle to go back to. Never to one that is revoked, expired, self-signed, covers less than is configured, or
 * whose key is gone.
 */
export function decideRollback({ history, identifiers, to }: RollbackRequest, now: Date): RollbackDecision {
  const active = history.find(({ state }) => state === 'active');
  const others = history.filter(({ id }) => id !== active?.id);
  const wanted = to === undefined ? others : others.filter(({ id }) => id.startsWith(to.toLowerCase()));
  if (wanted.length === 0) return { action: 'refuse', reason: whyNothing(to, active, others) };
  const judged = wanted.map((bundle) => ({ bundle, objection: objectionTo(bundle, identifiers, now) }));
  const good = judged
    .filter(({ objection }) => objection === undefined)
    .map(({ bundle }) => bundle)
    .sort((a, b) => issuedMs(b) - issuedMs(a));
  const candidates =
    to === undefined ? good.filter((bundle) => issuedMs(bundle) < issuedMs(active)) : good.slice(0, 2);
  const [best, rival] = candidates;
  if (to !== undefined && rival !== undefined)
    return { action: 'refuse', reason: `${to} is the beginning of several fingerprints: give more of it` };
  if (best === undefined) return { action: 'refuse', reason: describe(judged) };
  return {
    action: 'roll back',
    to: best.id,
    reason: `to the bundle ${short(best.id)} of generation ${best.generation}, valid until ${best.notAfter.toISOString()}`,
  };
}

/**
 * Until when a bundle that was gone back to is left alone: with a third of what it has left, so that neither its
 * renewal, long due, nor a window of the CA brings at once what the operator went back from.
 */
export function holdUntil(notAfter: Date, now: Date): Date {
  return new Date(now.getTime() + Math.floor(((notAfter.getTime() - now.getTime()) * 2) / 3));
}

function objectionTo(bundle: FormerBundle, identifiers: readonly string[], now: Date): string | undefined {
  if (bundle.state === 'revoked') return 'is revoked';
  if (now >= bundle.notAfter) return `expired at ${bundle.notAfter.toISOString()}`;
  if (bundle.origin === 'self-signed') return 'is self-signed';
  const { held } = bundle;
  if (held === undefined)
    return 'is not held any more: its key was destroyed (keepBundles says how many are kept)';
  const uncovered = identifiers.filter((identifier) => !held.identifiers.includes(identifier));
  return uncovered.length === 0 ? undefined : `does not cover ${uncovered.join(', ')}`;
}

function whyNothing(
  to: string | undefined,
  active: FormerBundle | undefined,
  others: readonly FormerBundle[],
): string {
  if (to !== undefined && active?.id.startsWith(to.toLowerCase()) === true)
    return `${short(active.id)} is the active bundle already`;
  if (to === undefined || others.length === 0) return 'there is no former bundle';
  return `no former bundle has a fingerprint that begins with ${to}; there are ${others.map(({ id }) => short(id)).join(', ')}`;
}

function describe(judged: readonly { bundle: FormerBundle; objection: string | undefined }[]): string {
  return judged
    .map(
      ({ bundle, objection = 'is newer: name it by its fingerprint to go to it' }) =>
        `${short(bundle.id)} ${objection}`,
    )
    .join('; ');
}

const issuedMs = (bundle: FormerBundle | undefined): number =>
  bundle?.held?.issuedAt.getTime() ?? Number.POSITIVE_INFINITY;

const short = (fingerprint: string): string => fingerprint.slice(0, 16);
