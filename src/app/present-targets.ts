import type { Summary } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { Mandate } from '../ports/leadership.ts';
import type { Target } from './host-journal.ts';
import { assertHostNamed } from './names.ts';
import type { Parts } from './parts.ts';

type FleetParts = Pick<Parts, 'config' | 'fleet' | 'roster'>;

/**
 * Whom a command is about, the hosts that are discovered included: it waits until each source was asked once. Throws
 * `ERR_UNKNOWN_NAME` for a host that is not there.
 */
export async function presentTargets(
  { config, fleet, roster }: FleetParts,
  only: { readonly host?: string | undefined; readonly certificates?: readonly string[] },
  options: { readonly signal: AbortSignal; readonly mandate: Mandate | undefined },
): Promise<readonly Target[]> {
  await roster.ensure(options);
  const targets = fleet.targets(only);
  if (only.host === undefined || targets.length > 0) return targets;
  // It may have come since the last look.
  await waitForAll(roster.discovered.map((pool) => roster.look(pool, options)));
  assertHostNamed(config, only.host, (pool) => roster.hostsOf(pool));
  return fleet.targets(only);
}

/** Pools whose hosts cannot be learned now: a command may have missed some of them. */
export function unlearnedPools({
  config,
  roster,
}: Pick<FleetParts, 'config' | 'roster'>): NonNullable<Summary['unlearned']> {
  const deployedTo = new Set(config.deployments.map(({ pool }) => pool));
  return roster
    .statuses()
    .flatMap(({ pool, failure }) =>
      failure === undefined || !deployedTo.has(pool) ? [] : [{ pool, failure }],
    );
}
