import pino from 'pino';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { CanaryGate } from '../../../src/app/canary.ts';
import { ChangePauses } from '../../../src/app/change-pauses.ts';
import type { Target } from '../../../src/app/host-journal.ts';
import { Leftovers } from '../../../src/app/leftovers.ts';
import { type ChangingPlace, PlaceChanges } from '../../../src/app/place-changes.ts';
import { Verdicts } from '../../../src/app/verdicts.ts';
import { HostError } from '../../../src/domain/host-error.ts';
import type { DeploymentSpec } from '../../../src/domain/model.ts';
import type { PlaceObservation } from '../../../src/domain/observation.ts';
import type { Means } from '../../../src/domain/place-decision.ts';
import { readBundlePem } from '../../../src/domain/x509.ts';
import type {
  AppliedChange,
  HaproxyHost,
  HaproxyHosts,
  HostChange,
} from '../../../src/ports/haproxy-host.ts';
import { selfSigned } from '../../support/pem.ts';
import { localPool } from '../../support/ssh-target.ts';
import { appFixture, effect } from './app-fixture.ts';

const host = { name: 'lb1', address: '127.0.0.1', port: 22 };
const deployment: DeploymentSpec = {
  certificate: 'site',
  pool: 'lbs',
  path: '/etc/haproxy/site.pem',
  file: '/etc/haproxy/site.pem',
  copies: [],
  mode: 0o600,
  owner: undefined,
  group: undefined,
  takeOver: false,
};
const target: Target = { pool: localPool([host]), host, deployments: [deployment] };
const { bundlePem } = selfSigned('site.test');
const worker = { pid: 7, startedMs: 0 };
const verified: AppliedChange = { verification: { state: 'verified', handshakes: 4 }, cleanedUp: true };

const unused = () => {
  throw new Error('not in this test');
};

const holding = (fingerprint1: string): PlaceObservation => ({
  file: { state: 'absent' },
  copies: [],
  loaded: { fingerprint1, notAfter: new Date('2027-01-01'), selfSigned: true },
});

function placeThat(
  observed: PlaceObservation,
  generation = 2,
  means: Means = 'swap',
  pem = bundlePem,
): ChangingPlace {
  const judged = readBundlePem(pem);
  if (judged.state === 'broken') throw new Error(judged.reason);
  return {
    deployment,
    desired: {
      certificate: 'site',
      pem,
      place: {
        generation,
        facts: judged.facts,
        pemSha256: '',
        pemBytes: pem.length,
        identifiers: ['site.test'],
        history: new Set(),
        revoked: false,
      },
    },
    decision: {
      action: 'change',
      means,
      writeFile: true,
      listFile: false,
      memory: true,
      lacksFile: true,
      reason: 'HAProxy has another certificate in memory',
      remains: undefined,
    },
    failure: undefined,
    observed,
    worker,
  };
}

const changed = () =>
  new HostError('ERR_HOST_CHANGED', { host: 'lbs/lb1', step: 'look', reason: 'changed', retry: 'now' });

let asked: HostChange[];
beforeEach(() => {
  asked = [];
});

/** Each call of `apply` gets the next answer; an error is thrown. */
async function changes(...answers: readonly (AppliedChange | Error)[]): Promise<PlaceChanges> {
  const { deps } = await appFixture();
  const haproxy: HaproxyHost = {
    pool: target.pool,
    host,
    observe: unused,
    readBundle: unused,
    rehearse: unused,
    reload: unused,
    abortAbandoned: unused,
    verify: unused,
    sweep: unused,
    apply: async (change) => {
      const answer = answers[asked.length] ?? new Error('applied once too often');
      asked.push(change);
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
  const hosts: HaproxyHosts = { host: () => haproxy, retain: unused, close: unused };
  const known = { ...deps, hosts, log: pino({ enabled: false }) };
  const canaries = new CanaryGate(known);
  const parts = {
    canaries,
    verdicts: new Verdicts(known, canaries),
    leftovers: new Leftovers(known),
    pauses: new ChangePauses(known),
  };
  onTestFinished(() => expect(asked).toHaveLength(answers.length));
  return new PlaceChanges(parts, known);
}

test('a host that holds something else by now is decided about again, and gets the bundle', async ({
  signal,
}) => {
  const made = await changes(changed(), verified);
  const fresh = placeThat(holding('bb'));
  const settled = await made.make(target, placeThat(holding('aa')), async () => fresh, effect(signal));
  expect(settled).toMatchObject({ action: 'swapped', status: { state: 'in sync' } });
  expect(asked.map(({ basis }) => basis?.place.loaded?.fingerprint1)).toEqual(['aa', 'bb']);
});

test.each([
  { when: 'needs no change any more', fresh: undefined },
  { when: 'is to get a newer bundle', fresh: placeThat(holding('bb'), 3) },
  // Else a file alone would prove the bundle to all hosts,
  { when: 'has no HAProxy that runs', fresh: placeThat(holding('bb'), 2, 'install') },
  // or one that HAProxy loads would come before its canary.
  {
    when: 'has an HAProxy that runs',
    decided: placeThat(holding('aa'), 2, 'install'),
    fresh: placeThat(holding('bb')),
  },
])(
  'a host that by now $when is left for its next look',
  async ({ decided = placeThat(holding('aa')), fresh }) => {
    const made = await changes(changed());
    const { signal } = new AbortController();
    const settled = await made.make(target, decided, async () => fresh, effect(signal));
    expect(settled).toMatchObject({ action: 'left', inSync: false });
  },
);

test('a host that changes again and again fails, and is looked at later', async ({ signal }) => {
  const made = await changes(changed(), changed());
  const fresh = placeThat(holding('bb'));
  const settled = await made.make(target, placeThat(holding('aa')), async () => fresh, effect(signal));
  expect(settled).toMatchObject({
    action: 'failed',
    status: { state: 'failed', failure: { code: 'ERR_HOST_CHANGED' } },
  });
});

test('the first changes in a process are proven by all handshakes, and a later one that follows a canary by one', async ({
  signal,
}) => {
  const made = await changes(verified, verified, verified, verified);
  const never = async () => undefined;
  const other = selfSigned('site.test').bundlePem;
  await made.make(target, placeThat(holding('aa'), 2), never, effect(signal));
  await made.make(target, placeThat(holding('aa'), 3, 'swap', other), never, effect(signal));
  await made.make(target, placeThat(holding('aa'), 3, 'swap', other), never, effect(signal));
  await made.make(target, placeThat(holding('aa'), 4), never, effect(signal));
  expect(asked.map(({ handshakes }) => handshakes)).toEqual([undefined, undefined, 1, undefined]);
});
