import { type ScanRequest, scanHosts } from '../app/host-keys.ts';
import { readSecret } from '../config/secret.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { HostKeyScan } from '../ports/host-key-scan.ts';
import { scanHostKeys } from '../ssh/scan-host-keys.ts';
import { discoverHosts } from './directory.ts';
import { systemClock, systemRandom } from './system.ts';

/** Needs neither the store nor the service: it is for the time before there is either. */
export async function scanConfiguredHosts(
  config: KacmeConfig,
  request: ScanRequest,
  options: { signal: AbortSignal },
): Promise<readonly HostKeyScan[]> {
  const scan = scanHostKeys({ readSecret, clock: systemClock, random: systemRandom });
  const known = await discoverHosts(config, { pool: request.pool, ...options });
  return scanHosts(known, request, scan, options);
}
