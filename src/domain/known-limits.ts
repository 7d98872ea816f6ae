import {
  LETS_ENCRYPT_LIMITS,
  LETS_ENCRYPT_STAGING_LIMITS,
  type LimitName,
  type OrderKind,
  type RateLimits,
} from './rate-limits.ts';

const LIMITS_BY_HOST: Readonly<Record<string, RateLimits>> = {
  'acme-v02.api.letsencrypt.org': LETS_ENCRYPT_LIMITS,
  'acme-staging-v02.api.letsencrypt.org': LETS_ENCRYPT_STAGING_LIMITS,
};

/** The documented limits of the CA whose ACME directory this is; none for a CA that is not known here. */
export function knownLimits(directory: string): RateLimits {
  return isLetsEncrypt(directory) ? (LIMITS_BY_HOST[new URL(directory).host] ?? {}) : {};
}

/** Which orders the CA does not hold to a limit, whatever its numbers are. */
export function knownExemptions(directory: string, limit: LimitName): readonly OrderKind[] {
  return isLetsEncrypt(directory) ? LETS_ENCRYPT_LIMITS[limit].spares : [];
}

/** Whether a directory is one of Let's Encrypt's, production or staging. */
export function isLetsEncrypt(directory: string): boolean {
  return Object.hasOwn(LIMITS_BY_HOST, new URL(directory).host);
}
