import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { loadRegisteredDomain } from '../../../src/compose/registered-domain.ts';
import type { IssuanceTerms } from '../../../src/domain/issuance-terms.ts';
import type { CertificateSpec, IssuerSpec, KacmeConfig } from '../../../src/domain/model.ts';
import type { RateLimits } from '../../../src/domain/rate-limits.ts';
import { createPki } from '../../../src/pki/pki.ts';
import type { Clock } from '../../../src/ports/clock.ts';
import type { EffectOptions } from '../../../src/ports/leadership.ts';
import { FileStateStore } from '../../../src/store/file-store.ts';
import { heldMandate } from '../../support/mandate.ts';
import { scratchDirectory } from '../../support/scratch.ts';

export const DAY_MS = 86_400_000;

/** A day on which every certificate of a test that is not told otherwise is valid. */
export const START = new Date('2026-06-01T00:00:00Z');

/** A real store in a directory of its own, and a clock that stands still until the test moves it. */
export async function appFixture() {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  let nowMs = START.getTime();
  const clock: Clock = {
    now: () => new Date(nowMs),
    monotonicMs: () => nowMs,
    sleep: async () => {},
  };
  const openStore = async () => {
    const store = await FileStateStore.open(scratch.path, { clock });
    onTestFinished(() => store.close());
    return store;
  };
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => lines.push(line) });
  const deps = {
    store: await openStore(),
    clock,
    random: { uniform: () => 0 },
    pki: createPki(),
    registeredDomain: await loadRegisteredDomain(),
    loadRegisteredDomain,
    log,
  };
  return {
    deps,
    directory: scratch.path,
    /** The same for a process that was started anew. */
    restarted: async () => ({ ...deps, store: await openStore() }),
    advance: (ms: number) => {
      nowMs += ms;
    },
    logged: () => lines.map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>),
  };
}

export const effect = (signal: AbortSignal): EffectOptions => ({ signal, mandate: heldMandate() });

export const spec = (identifiers: readonly string[] = ['site.test']): CertificateSpec => ({
  name: 'site',
  identifiers,
  issuers: ['ca'],
  key: 'ecdsa-p256',
  profile: undefined,
  preferredChain: undefined,
  reuseKey: false,
});

/** Nothing is asked of the CA beside the names. */
export const NO_TERMS: IssuanceTerms = { profile: undefined, preferredChain: undefined };

export const issuer = (limits: RateLimits = {}, name = 'ca'): IssuerSpec => ({
  name,
  directory: 'https://ca.test/directory',
  contact: [],
  termsOfServiceAgreed: true,
  profile: undefined,
  preferredChain: undefined,
  eab: undefined,
  caFile: undefined,
  proxy: undefined,
  timeoutMs: 1_000,
  limits,
  stagingFirst: undefined,
});

/** A valid configuration with nothing to do. */
export const emptyConfig: KacmeConfig = {
  issuers: {},
  certificates: {},
  pools: {},
  deployments: [],
  challenge: { listen: { host: '127.0.0.1', port: 0 }, resolvers: 'off', selfCheck: 'off' },
  operations: { listen: { host: '127.0.0.1', port: 0 } },
  control: { socket: '/nowhere' },
  store: { file: '/nowhere' },
  reconcile: { everyMs: 1_000 },
  keepBundles: 3,
  log: { level: 'info' },
};
