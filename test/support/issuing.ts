import { Authorities } from '../../src/app/authorities.ts';
import { Backoffs } from '../../src/app/backoffs.ts';
import { Bundles } from '../../src/app/bundles.ts';
import { CertificateStatuses } from '../../src/app/certificate-status.ts';
import type { AppDeps } from '../../src/app/deps.ts';
import { CertificateIssuer } from '../../src/app/issue.ts';
import { Outlook } from '../../src/app/outlook.ts';
import { Preflight } from '../../src/app/preflight.ts';
import { Rehearsals } from '../../src/app/rehearsals.ts';
import { RenewalInformation } from '../../src/app/renewal-info.ts';
import { RenewalPlanner } from '../../src/app/renewal-planner.ts';
import { Revocations } from '../../src/app/revocation.ts';
import type { IssuerSpec, KacmeConfig } from '../../src/domain/model.ts';
import type { CertificateAuthority } from '../../src/ports/certificate-authority.ts';
import { emptyConfig } from '../unit/app/app-fixture.ts';

type Lasting = Pick<AppDeps, 'store' | 'clock' | 'random' | 'pki' | 'log' | 'loadRegisteredDomain'>;

/** What issues and revokes, with every issuer at `connect`, and without DNS and self-check. */
export function issuingParts(
  issuers: Readonly<Record<string, IssuerSpec>>,
  lasting: Lasting,
  connect: () => CertificateAuthority,
) {
  const unasked = () => {
    throw new Error('this test does not foresee that hosts or files are looked at');
  };
  const deps: AppDeps = {
    ...lasting,
    connectCertificateAuthority: async () => connect(),
    resolver: undefined,
    selfCheck: undefined,
    hosts: { host: unasked, retain: unasked, close: unasked },
    directory: { hosts: unasked },
    readForeignDirectory: unasked,
  };
  const bundles = new Bundles(3, deps);
  const authorities = new Authorities(issuers, deps);
  const issuing = {
    authorities,
    bundles,
    backoffs: new Backoffs(issuers, bundles, deps),
    preflight: new Preflight(deps),
    rehearsals: new Rehearsals(issuers, bundles, deps),
  };
  const renewalInfo = new RenewalInformation(authorities, bundles, deps);
  const planner = new RenewalPlanner({ ...issuing, renewalInfo }, deps);
  const outlookOf = (certificates: KacmeConfig['certificates']) =>
    new Outlook(
      { ...emptyConfig, issuers, certificates },
      { authorities, renewalInfo, planner, ordersInFlight: 8 },
      deps,
    );
  return {
    bundles,
    issuer: new CertificateIssuer(issuing, deps),
    renewalInfo,
    statuses: new CertificateStatuses({ ...issuing, renewalInfo, planner, clock: deps.clock }),
    outlookOf,
    revocations: new Revocations(authorities, bundles, deps),
  };
}
