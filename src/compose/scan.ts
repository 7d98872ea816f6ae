import { type ScanRequest, scanHosts } from '../app/host-keys.ts';
import { readSecret } from '../config/secret.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { HostKeyScan } from '../ports/host-key-scan.ts';
import { scanHostKeys } from '../ssh/scan-host-keys.ts';
import { systemClock, systemRandom } from './system.ts';

/** Needs neither the store nor the service: it is for the time before there is either. */
export function scanConfiguredHosts(
  config: KacmeConfig,
  request: ScanRequest,
  options: { signal: AbortSignal },
): Promise<readonly HostKeyScan[]> {
  const scan = scanHostKeys({ readSecret, clock: systemClock, random: systemRandom });
  return scanHosts(config, request, scan, options);
}
