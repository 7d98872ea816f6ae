import { isIpAddress } from '../domain/ip-address.ts';
import { isLetsEncrypt } from '../domain/known-limits.ts';
import { LETS_ENCRYPT_DEFAULT_PROFILE, letsEncryptProfile } from '../domain/known-profiles.ts';
import type { ConfigPath } from './issue.ts';
import type { Mistake } from './tree.ts';

/** What the rules look at, as far as it has been written. */
export interface OrderedAt {
  readonly issuer: string;
  readonly directory: unknown;
  readonly issuerProfile: unknown;
  readonly certificateProfile: unknown;
  /** In their normal form; undefined for what is none. */
  readonly identifiers: readonly (string | undefined)[];
}

/** What is known of Let's Encrypt before it is asked: how many names a profile takes, and which takes addresses. */
export function letsEncryptRules(certificate: ConfigPath, ordered: OrderedAt): Mistake[] {
  const { issuer, directory, identifiers } = ordered;
  if (typeof directory !== 'string' || !URL.canParse(directory) || !isLetsEncrypt(directory)) return [];
  const chosen = ordered.certificateProfile ?? ordered.issuerProfile;
  if (chosen !== undefined && typeof chosen !== 'string') return [];
  const rule = letsEncryptProfile(chosen);
  if (rule === undefined) return [];
  const profile = chosen ?? `${LETS_ENCRYPT_DEFAULT_PROFILE}, its default`;
  const tooMany = identifiers.length > rule.maxIdentifiers ? [rule.maxIdentifiers] : [];
  const addresses = identifiers.flatMap((identifier, index) =>
    identifier !== undefined && isIpAddress(identifier) && !rule.addresses ? [index] : [],
  );
  return [
    ...tooMany.map((index) => ({
      path: [...certificate, 'identifiers', index],
      message: `issuer ${issuer}: Let's Encrypt takes at most ${rule.maxIdentifiers} identifiers with the profile ${profile}: split the certificate`,
    })),
    ...addresses.map((index) => ({
      path: [...certificate, 'identifiers', index],
      message: `issuer ${issuer}: Let's Encrypt certifies IP addresses with the profile shortlived only, not with ${profile}: set profile: shortlived, or give addresses a certificate of their own`,
    })),
  ];
}
