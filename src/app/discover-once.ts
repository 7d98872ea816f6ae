import { arrangePools, type FoundHost } from '../domain/discovery.ts';
import type { KacmeConfig } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { HostDirectory } from '../ports/host-directory.ts';

/**
 * The configuration as if it listed the hosts that its sources name now: for commands that need neither store nor
 * service. `pool` leaves the other sources alone. Throws `ERR_HOSTS_UNKNOWN`.
 */
export async function withDiscoveredHosts(
  config: KacmeConfig,
  directory: HostDirectory,
  { pool, ...options }: { readonly pool: string | undefined; readonly signal: AbortSignal },
): Promise<KacmeConfig> {
  const pools = Object.values(config.pools);
  const found = new Map<string, readonly FoundHost[]>(
    await waitForAll(
      pools.map(async ({ name, discovery }) => {
        const asked = discovery !== undefined && name === (pool ?? name);
        return [name, asked ? (await directory.hosts(discovery, options)).hosts : []] as const;
      }),
    ),
  );
  const arranged = arrangePools(pools, ({ name }) => found.get(name) ?? []);
  const listed = pools.map((spec) => [spec.name, { ...spec, hosts: arranged.get(spec.name)?.hosts ?? [] }]);
  return { ...config, pools: Object.fromEntries(listed) };
}
