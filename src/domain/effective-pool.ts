import type { HostSpec, PoolSpec } from './model.ts';

/** The pool as this host is to be treated: its own settings in the place of the pool's. */
export function effectivePool(pool: PoolSpec, { overrides }: HostSpec): PoolSpec {
  return overrides === undefined ? pool : { ...pool, ...overrides };
}
