import type { KacmeConfig } from '../domain/model.ts';
import type { AccountLocks } from './account-locks.ts';
import { Accounts } from './accounts.ts';
import { Adoption } from './adoption.ts';
import { Authorities } from './authorities.ts';
import { Backoffs } from './backoffs.ts';
import { Bundles } from './bundles.ts';
import type { CanaryGate } from './canary.ts';
import { CertificateStatuses } from './certificate-status.ts';
import type { AppDeps } from './deps.ts';
import { Fleet } from './fleet.ts';
import { CertificateIssuer } from './issue.ts';
import { Outlook } from './outlook.ts';
import { Preflight } from './preflight.ts';
import { Rehearsals } from './rehearsals.ts';
import { RenewalInformation } from './renewal-info.ts';
import { RenewalPlanner } from './renewal-planner.ts';
import { Revocations } from './revocation.ts';
import { Roster } from './roster.ts';

/** Bounds what one kacme asks of a CA at a time. */
export const ORDERS_IN_FLIGHT = 8;

/** What kacme consists of for one configuration, each part made for it and wired to the others. */
export interface Parts {
  readonly config: KacmeConfig;
  readonly deps: AppDeps;
  readonly bundles: Bundles;
  readonly authorities: Authorities;
  readonly accounts: Accounts;
  readonly revocations: Revocations;
  readonly issuer: CertificateIssuer;
  readonly planner: RenewalPlanner;
  readonly statuses: CertificateStatuses;
  readonly outlook: Outlook;
  readonly roster: Roster;
  readonly fleet: Fleet;
  readonly adoption: Adoption;
}

export function assembleParts(
  config: KacmeConfig,
  deps: AppDeps,
  shared: { readonly canaries: CanaryGate; readonly accounts: AccountLocks },
  onRosterChanged: () => void,
): Parts {
  const bundles = new Bundles(config.keepBundles, deps);
  const authorities = new Authorities(config.issuers, deps, shared.accounts);
  const accounts = new Accounts(config, authorities, deps);
  const backoffs = new Backoffs(config.issuers, bundles, deps);
  const rehearsals = new Rehearsals(config.issuers, bundles, deps);
  const preflight = new Preflight(deps);
  const renewalInfo = new RenewalInformation(authorities, bundles, deps);
  const planner = new RenewalPlanner({ renewalInfo, backoffs, rehearsals }, deps);
  const { clock } = deps;
  const ordersInFlight = ORDERS_IN_FLIGHT;
  const roster = new Roster(config, deps, onRosterChanged);
  const fleet = new Fleet(config, { bundles, canaries: shared.canaries, roster }, deps);
  return {
    config,
    deps,
    bundles,
    authorities,
    accounts,
    revocations: new Revocations(authorities, bundles, deps),
    issuer: new CertificateIssuer({ authorities, bundles, backoffs, preflight, rehearsals }, deps),
    planner,
    statuses: new CertificateStatuses({ bundles, renewalInfo, planner, backoffs, clock }),
    outlook: new Outlook(config, { authorities, renewalInfo, planner, ordersInFlight }, deps),
    roster,
    fleet,
    adoption: new Adoption(config, { bundles, accounts, fleet }, deps),
  };
}
