import type { PlannedCertificate } from '../domain/calendar-model.ts';
import { type ErrorReport, reportError } from '../domain/errors.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { Authorities } from './authorities.ts';
import { calendarOf } from './calendar.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { RenewalInformation } from './renewal-info.ts';
import { familyHeld, type RenewalPlanner } from './renewal-planner.ts';

export interface OutlookSources {
  readonly authorities: Authorities;
  readonly renewalInfo: RenewalInformation;
  readonly planner: RenewalPlanner;
  /** How many orders are open at a CA at a time. */
  readonly ordersInFlight: number;
}

/** The coming renewals of one configuration, from what the store holds now. */
export class Outlook {
  readonly #config: KacmeConfig;
  readonly #sources: OutlookSources;
  readonly #deps: AppDeps;

  constructor(config: KacmeConfig, sources: OutlookSources, deps: AppDeps) {
    this.#config = config;
    this.#sources = sources;
    this.#deps = deps;
  }

  async calendar({ days }: { days: number }, { signal }: { signal: AbortSignal }): Promise<RenewalCalendar> {
    const now = this.#deps.clock.now();
    const specs = Object.values(this.#config.certificates);
    const outlooks = await waitForAll(specs.map((spec) => this.#outlook(spec, { signal })));
    const issuers = Object.values(this.#config.issuers).flatMap((issuer) => {
      const certificates = outlooks.flatMap((outlook) =>
        'planned' in outlook && outlook.issuer === issuer.name ? [outlook.planned] : [],
      );
      return certificates.length === 0 ? [] : [{ issuer, certificates }];
    });
    return {
      at: now.toISOString(),
      days,
      issuers: await waitForAll(
        issuers.map(async ({ issuer, certificates }) =>
          calendarOf(
            {
              issuer,
              certificates,
              ledger: await (await this.#sources.authorities.book(issuer.name)).ledger({ signal }),
              from: now,
              days,
              ordersInFlight: this.#sources.ordersInFlight,
              registeredDomain: await this.#deps.loadRegisteredDomain(),
            },
            () => this.#deps.clock.sleep(0, { signal }),
          ),
        ),
      ),
      rehearsals: outlooks.flatMap((outlook) =>
        'planned' in outlook && outlook.staging !== undefined
          ? [{ certificate: outlook.planned.spec.name, issuer: outlook.issuer, staging: outlook.staging }]
          : [],
      ),
      unreadable: outlooks.flatMap((outlook) => ('failure' in outlook ? [outlook] : [])),
    };
  }

  /** Where a plan begins with a certificate: the issuer that would be asked, and what is held. */
  async #outlook(
    spec: CertificateSpec,
    options: { signal: AbortSignal },
  ): Promise<
    | { readonly issuer: string; readonly staging: string | undefined; readonly planned: PlannedCertificate }
    | { readonly certificate: string; readonly failure: ErrorReport }
  > {
    try {
      const { issuer, staging, backoff } = await this.#sources.planner.chooseIssuer(spec, options);
      const renewable = await this.#sources.renewalInfo.of(spec.name, options);
      const held = renewable && {
        ...renewable.held,
        notBefore: new Date(renewable.bundle.notBefore),
        family: familyHeld(spec, renewable.bundle),
      };
      // A rollback outweighs the window of the CA (`renewalTime`).
      const renewalInfo = held?.heldUntil === undefined ? renewable?.state : undefined;
      return { issuer, staging, planned: { spec, held, backoff, renewalInfo } };
    } catch (error) {
      return { certificate: spec.name, failure: reportError(expectedFailure(error, options)) };
    }
  }
}
