import { judgeDiscoveries } from '../domain/discovery-check.ts';
import { type CheckReport, checkOutcome, type Finding } from '../domain/finding.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { DiscoveryStatus } from '../domain/status.ts';
import type { Mandate } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import type { Authorities } from './authorities.ts';
import type { Bundles } from './bundles.ts';
import { checkHosts } from './check-hosts.ts';
import { checkIssuers } from './check-issuers.ts';
import { checkNames } from './check-names.ts';
import type { AppDeps } from './deps.ts';
import type { Target } from './host-journal.ts';
import type { Preflight, WhileServing } from './preflight.ts';

/** What a process can do for a check, and what it found out about itself. */
export interface CheckSurroundings {
  /** With it, what a change needs is tried on hosts, and taken back. */
  readonly mandate: Mandate | undefined;
  /** Undefined when this process answers no challenges. */
  readonly whileServing: WhileServing | undefined;
  /** Store and ports. */
  readonly service: readonly Finding[];
}

interface Checked {
  readonly config: KacmeConfig;
  readonly authorities: Authorities;
  readonly bundles: Bundles;
  readonly preflight: Preflight;
  readonly targets: readonly Target[];
  readonly discoveries: readonly DiscoveryStatus[];
}

/** Everything that can be known before it hurts. Nothing that it does lasts. */
export async function checkEverything(
  { config, authorities, bundles, preflight, targets, discoveries }: Checked,
  deps: AppDeps,
  { mandate, whileServing, service }: CheckSurroundings,
  { signal, onProgress }: CommandOptions,
): Promise<CheckReport> {
  const at = deps.clock.now().toISOString();
  onProgress({ message: 'looking at issuers and hosts' });
  const [issuers, hosts] = await Promise.all([
    checkIssuers({ config, authorities, deps }, { signal }),
    checkHosts(targets, { config, bundles, hosts: deps.hosts, mandate }, { signal }),
  ]);
  onProgress({ message: 'looking at names: DNS, challenges, CAA' });
  const names = await checkNames({ config, preflight, whileServing, authorities: issuers.facts }, { signal });
  const findings = [...service, ...issuers.findings, ...names, ...judgeDiscoveries(discoveries), ...hosts];
  return { at, outcome: checkOutcome(findings), findings };
}
