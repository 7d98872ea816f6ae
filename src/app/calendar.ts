import { planCalendarInSlices } from '../domain/calendar.ts';
import type { Calendar, PlannedCertificate } from '../domain/calendar-model.ts';
import { isLetsEncrypt } from '../domain/known-limits.ts';
import { letsEncryptProfile } from '../domain/known-profiles.ts';
import { LETS_ENCRYPT_CLASSIC, type LifetimeRule } from '../domain/lifetimes.ts';
import type { IssuerSpec } from '../domain/model.ts';
import { type Ledger, shareOf } from '../domain/rate-ledger.ts';
import { LIMIT_NAMES, type LimitName, type RateLimits } from '../domain/rate-limits.ts';
import type { RegisteredDomain } from '../domain/registered-domain.ts';
import type { IssuerCalendar, LimitUse, UsedOf } from '../domain/renewal-calendar.ts';

const DAY_MS = 86_400_000;
/** Of a CA that has issued nothing here yet. */
const USUAL_LIFETIME_MS = 90 * DAY_MS;
/** From newOrder to the certificate: it only decides how many orders overlap. */
const ORDER_MS = 10_000;

export interface IssuerOutlook {
  readonly issuer: IssuerSpec;
  readonly certificates: readonly PlannedCertificate[];
  readonly ledger: Ledger;
  readonly from: Date;
  readonly days: number;
  readonly ordersInFlight: number;
  readonly registeredDomain: RegisteredDomain;
}

/**
 * The coming orders at one issuer if nothing fails, and their use of its limits. The same whenever it is asked. A plan
 * of ten thousand certificates takes seconds: `pause` is awaited every few milliseconds of it.
 */
export async function calendarOf(
  outlook: IssuerOutlook,
  pause: () => Promise<void>,
): Promise<IssuerCalendar> {
  const { issuer, ledger, from } = outlook;
  const certificates = outlook.certificates.map((certificate) => {
    const lifetimes = announcedLifetimes(issuer, certificate.spec.profile ?? issuer.profile);
    return lifetimes === undefined ? certificate : { ...certificate, lifetimes };
  });
  const { limits } = issuer;
  const calendar = await unhurried(
    planCalendarInSlices({
      certificates,
      from,
      days: outlook.days,
      account: issuer.name,
      limits,
      ledger,
      registeredDomain: outlook.registeredDomain,
      lifetimes: lifetimesSoFar(certificates),
      windows: undefined,
      outages: [],
      ordersInFlight: outlook.ordersInFlight,
      orderMs: ORDER_MS,
      // The middle of every draw that is still to be made: a plan must not change because it is looked at.
      uniform: () => 1 / 2,
    }),
    pause,
  );
  const ordered = new Set(calendar.orders.map(({ certificate }) => certificate));
  return {
    issuer: issuer.name,
    directory: issuer.directory,
    orders: calendar.orders.map(({ certificate, orderedAt, kind, reason }) => {
      return { certificate, at: orderedAt.toISOString(), kind, reason };
    }),
    limits: LIMIT_NAMES.flatMap((name) => useOf(name, { limits, ledger, calendar, from })),
    waits: calendar.days
      .filter(({ deferred }) => deferred > 0)
      .map(({ start, deferred }) => ({ day: start.toISOString(), times: deferred })),
    expiring: calendar.violations
      .filter(({ kind }) => kind === 'expired')
      .map(({ subject, at }) => ({ certificate: subject, at: at.toISOString() })),
    unissued: certificates
      .filter(({ spec, held }) => held?.origin !== 'acme' && !ordered.has(spec.name))
      .map(({ spec }) => spec.name),
  };
}

/** Let's Encrypt has said in advance how long its certificates live, by profile. */
function announcedLifetimes(
  { directory }: IssuerSpec,
  profile: string | undefined,
): readonly LifetimeRule[] | undefined {
  const rule = isLetsEncrypt(directory) ? letsEncryptProfile(profile) : undefined;
  if (rule === undefined) return undefined;
  const { lifetimeMs } = rule;
  return lifetimeMs === undefined ? LETS_ENCRYPT_CLASSIC : [{ from: new Date(0), lifetimeMs }];
}

/** Another CA goes on as it is, by the shortest that it has issued. */
function lifetimesSoFar(certificates: readonly PlannedCertificate[]): readonly LifetimeRule[] {
  const lifetimes = certificates.flatMap(({ held }) =>
    held?.origin === 'acme' ? [held.notAfter.getTime() - held.notBefore.getTime()] : [],
  );
  const lifetimeMs = lifetimes.length === 0 ? USUAL_LIFETIME_MS : Math.min(...lifetimes);
  return [{ from: new Date(0), lifetimeMs }];
}

function useOf(
  limit: LimitName,
  plan: {
    readonly limits: RateLimits;
    readonly ledger: Ledger;
    readonly calendar: Calendar;
    readonly from: Date;
  },
): readonly LimitUse[] {
  const capacity = plan.limits[limit]?.capacity;
  if (capacity === undefined) return [];
  const peak = plan.calendar.peaks.find((peak) => peak.limit === limit);
  return [
    {
      limit,
      capacity,
      now: usedNow(limit, capacity, plan),
      peak: peak && { subject: subjectOf(peak.key), used: rounded(peak.used), at: peak.at.toISOString() },
    },
  ];
}

function usedNow(
  limit: LimitName,
  capacity: number,
  { limits, ledger, from }: { readonly limits: RateLimits; readonly ledger: Ledger; readonly from: Date },
): UsedOf | undefined {
  let most: UsedOf | undefined;
  for (const [key, bucket] of Object.entries(ledger)) {
    if (!key.startsWith(`${limit}/`)) continue;
    const used = rounded(shareOf(bucket, limits, limit, from) * capacity);
    if (used > (most?.used ?? 0)) most = { subject: subjectOf(key), used };
  }
  return most;
}

const subjectOf = (key: string): string => key.slice(key.indexOf('/') + 1);

const rounded = (used: number): number => Math.round(used * 100) / 100;

async function unhurried<T>(slices: Generator<undefined, T>, pause: () => Promise<void>): Promise<T> {
  for (let slice = slices.next(); ; slice = slices.next()) {
    if (slice.done === true) return slice.value;
    await pause();
  }
}
