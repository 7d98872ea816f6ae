import { isIPv6 } from 'node:net';
import type { HostSpec, PoolSpec } from '../domain/model.ts';

/** How every message of this host's session begins: `pool/host`. */
export const hostLabel = (pool: PoolSpec, host: HostSpec): string => `${pool.name}/${host.name}`;

export const endpointText = ({
  address,
  port,
}: {
  readonly address: string;
  readonly port: number;
}): string => (isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`);
