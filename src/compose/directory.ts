import { withDiscoveredHosts } from '../app/discover-once.ts';
import { readHostsFile } from '../config/hosts-file.ts';
import { createHostDirectory } from '../discovery/host-directory.ts';
import { createResolver } from '../dns/resolver.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { HostDirectory } from '../ports/host-directory.ts';

export const wireHostDirectory = (): HostDirectory =>
  createHostDirectory({ resolverFor: createResolver, readHostsFile });

/** The configuration with the hosts that its sources name now. Throws `ERR_HOSTS_UNKNOWN`. */
export function discoverHosts(
  config: KacmeConfig,
  options: { readonly pool: string | undefined; readonly signal: AbortSignal },
): Promise<KacmeConfig> {
  return withDiscoveredHosts(config, wireHostDirectory(), options);
}
