import type { HostAnswer } from '../domain/discovery.ts';
import type { DiscoverySpec } from '../domain/model.ts';

/** Asks what names the hosts of a pool: DNS, or a file. */
export interface HostDirectory {
  /**
   * Who the hosts are now; at least one. Comes within a bounded time. Throws `ERR_HOSTS_UNKNOWN` when there is no answer, or
   * none that can be believed.
   */
  hosts(source: DiscoverySpec, options: { signal: AbortSignal }): Promise<HostAnswer>;
}
