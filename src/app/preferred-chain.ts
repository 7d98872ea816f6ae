import { KacmeError } from '../domain/errors.ts';
import type { IssuanceTerms } from '../domain/issuance-terms.ts';
import { rootNameOf } from '../domain/x509.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';

/**
 * Downloads the chain that is preferred: the CA's own choice if that is it or nothing is preferred, else the first of
 * its alternates that is. Throws `ERR_ACME_CHAIN`, which names those that the CA offers; the order stays as it is, so
 * that the next attempt downloads from it again.
 */
export async function downloadChain(
  url: string,
  { preferredChain }: Pick<IssuanceTerms, 'preferredChain'>,
  issuer: string,
  authority: Pick<CertificateAuthority, 'certificate'>,
  { signal }: { signal: AbortSignal },
): Promise<string> {
  const { chainPem, alternates } = await authority.certificate(url, { signal });
  if (preferredChain === undefined) return chainPem;
  const offered = new Set<string>();
  const isPreferred = (chain: string): boolean => {
    const name = rootNameOf(chain) ?? 'a chain without a name';
    offered.add(name);
    return name === preferredChain.value;
  };
  if (isPreferred(chainPem)) return chainPem;
  for (const alternate of alternates) {
    const other = await authority.certificate(alternate, { signal });
    if (isPreferred(other.chainPem)) return other.chainPem;
  }
  const choice = Array.from(offered, (name) => `"${name}"`).join(', ');
  throw new KacmeError(
    'ERR_ACME_CHAIN',
    `the CA of ${issuer} offers no chain for ${url} that leads to "${preferredChain.value}": it offers ${choice}. The certificate is issued and waits to be downloaded`,
    {
      retry: 'never',
      remedy: `set ${preferredChain.setBy} to one of ${choice}, or remove it: kacme then downloads the same certificate, without another order`,
    },
  );
}
