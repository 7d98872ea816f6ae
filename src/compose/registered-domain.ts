import type { RegisteredDomain } from '../domain/registered-domain.ts';

/** By the public suffix list that comes with tldts: 12 MB in memory, so it is loaded when an order is first counted. */
export async function loadRegisteredDomain(): Promise<RegisteredDomain> {
  const { getDomain } = await import('tldts');
  return (name) => getDomain(name, { allowPrivateDomains: true }) ?? undefined;
}
