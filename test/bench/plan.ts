import { loadRegisteredDomain } from '../../src/compose/registered-domain.ts';
import { planCalendar } from '../../src/domain/calendar.ts';
import type { PlannedCertificate } from '../../src/domain/calendar-model.ts';
import { LETS_ENCRYPT_CLASSIC, usualWindow } from '../../src/domain/lifetimes.ts';
import { LETS_ENCRYPT_LIMITS } from '../../src/domain/rate-limits.ts';
import type { RegisteredDomain } from '../../src/domain/registered-domain.ts';
import { assertWork, type Benchmark } from './benchmark.ts';

const CERTIFICATES = 10_000;
const PER_DOMAIN = 20;
const FROM = new Date('2027-01-01T00:00:00Z');
const DAY_MS = 86_400_000;

/** Pure computation: a fleet from nothing at Let's Encrypt, through outages and a change of the lifetime. */
export const plan: Benchmark = {
  name: 'plan',
  about: `a year of ${CERTIFICATES} certificates on a virtual clock`,
  run: async ({ runs, say, signal }) => {
    const samples: number[] = [];
    for (let i = 0; i < Math.min(runs, 3); i++) {
      signal.throwIfAborted();
      const registeredDomain = await loadRegisteredDomain();
      const startMs = performance.now();
      const orders = planYear(registeredDomain);
      samples.push(performance.now() - startMs);
      say(`plan: ${orders} orders`);
    }
    return [
      {
        name: 'plan.year',
        title: `${CERTIFICATES} certificates, a year`,
        unit: 'ms',
        target: 30_000,
        samples,
      },
    ];
  },
};

function planYear(registeredDomain: RegisteredDomain): number {
  const { orders, violations, unissued } = planCalendar({
    certificates: Array.from({ length: CERTIFICATES }, (_, i) => certificate(i)),
    from: FROM,
    days: 365,
    account: 'letsencrypt',
    limits: LETS_ENCRYPT_LIMITS,
    ledger: {},
    registeredDomain,
    lifetimes: LETS_ENCRYPT_CLASSIC,
    windows: { suggest: (_, bundle) => usualWindow(bundle), changesAt: [] },
    outages: [40, 100, 250].map((day) => ({
      start: new Date(FROM.getTime() + day * DAY_MS),
      end: new Date(FROM.getTime() + (day + 3) * DAY_MS),
    })),
    ordersInFlight: 8,
    orderMs: 5_000,
    uniform: () => Math.random(),
  });
  assertWork(violations.length === 0, `${violations.length} limits exceeded or certificates expired`);
  assertWork(unissued.length === 0, `${unissued.length} certificates were never issued`);
  return orders.length;
}

function certificate(number: number): PlannedCertificate {
  const name = `c${number}.d${Math.floor(number / PER_DOMAIN)}.org`;
  return {
    spec: {
      name: `c${number}`,
      identifiers: [name, `www.${name}`],
      issuers: ['letsencrypt'],
      key: 'ecdsa-p256',
      profile: undefined,
      preferredChain: undefined,
      reuseKey: false,
    },
    held: undefined,
    renewalInfo: undefined,
    backoff: undefined,
  };
}
