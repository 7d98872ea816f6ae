/** What Let's Encrypt lets into a certificate of one of its profiles ("Profiles"). */
export interface ProfileRule {
  readonly maxIdentifiers: number;
  /** Whether IP addresses are let in. */
  readonly addresses: boolean;
  /** Of what is issued today; undefined where it changes with the years (`LETS_ENCRYPT_CLASSIC`). */
  readonly lifetimeMs: number | undefined;
}

const HOUR_MS = 3_600_000;

/** What an order without a profile is for at Let's Encrypt. */
export const LETS_ENCRYPT_DEFAULT_PROFILE = 'classic';

const LETS_ENCRYPT_PROFILES: Readonly<Record<string, ProfileRule>> = {
  classic: { maxIdentifiers: 100, addresses: false, lifetimeMs: undefined },
  tlsserver: { maxIdentifiers: 25, addresses: false, lifetimeMs: 45 * 24 * HOUR_MS },
  shortlived: { maxIdentifiers: 25, addresses: true, lifetimeMs: 160 * HOUR_MS },
};

/** Undefined for a profile that is not known here: its directory knows. */
export function letsEncryptProfile(name = LETS_ENCRYPT_DEFAULT_PROFILE): ProfileRule | undefined {
  return Object.hasOwn(LETS_ENCRYPT_PROFILES, name) ? LETS_ENCRYPT_PROFILES[name] : undefined;
}
