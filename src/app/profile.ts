import { KacmeError } from '../domain/errors.ts';
import type { IssuanceTerms } from '../domain/issuance-terms.ts';
import type { CertificateAuthority, Order } from '../ports/certificate-authority.ts';

/**
 * Asks the directory, before anything else is sent, whether the CA offers the profile that is configured. Throws
 * `ERR_ACME_PROFILE`, which names those that it offers.
 */
export async function assertProfileOffered(
  { profile }: Pick<IssuanceTerms, 'profile'>,
  issuer: string,
  authority: Pick<CertificateAuthority, 'profiles'>,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  if (profile === undefined) return;
  const known = await authority.profiles({ signal });
  if (known !== undefined && Object.hasOwn(known, profile.value)) return;
  // It may be new at the CA.
  const offered = await authority.profiles({ signal, fresh: true });
  if (offered !== undefined && Object.hasOwn(offered, profile.value)) return;
  const choice = Object.entries(offered ?? {}).map(([name, description]) => `${name} (${description})`);
  const why = choice.length === 0 ? 'its directory names no profiles' : `it offers ${choice.join(', ')}`;
  throw new KacmeError(
    'ERR_ACME_PROFILE',
    `the CA of ${issuer} does not offer the profile ${profile.value}: ${why}`,
    {
      retry: 'never',
      remedy:
        choice.length === 0
          ? `remove ${profile.setBy}`
          : `set ${profile.setBy} to one of ${Object.keys(offered ?? {}).join(', ')}, or remove it`,
    },
  );
}

/** Whether an order was placed for another profile than the one that is configured now. */
export function hasOtherProfile(order: Order, { profile }: Pick<IssuanceTerms, 'profile'>): boolean {
  return order.profile !== undefined && profile !== undefined && order.profile !== profile.value;
}
