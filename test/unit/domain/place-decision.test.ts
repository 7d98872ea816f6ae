import { describe, expect, test } from 'vitest';
import type { FailedChanges } from '../../../src/domain/change-pause.ts';
import type { DeploymentSpec } from '../../../src/domain/model.ts';
import type {
  FileObservation,
  HostObservation,
  LoadedCertificate,
  WorkersObservation,
} from '../../../src/domain/observation.ts';
import { type DesiredPlace, decidePlace, type ReloadOption } from '../../../src/domain/place-decision.ts';
import type { CertificateFacts } from '../../../src/domain/x509.ts';

const now = new Date('2026-06-01T00:00:00Z');
const later = new Date('2026-08-01T00:00:00Z');
const earlier = new Date('2026-05-01T00:00:00Z');

function facts(id: string, overrides: Partial<CertificateFacts> = {}): CertificateFacts {
  return {
    fingerprint256: `${id}-256`,
    fingerprint1: `${id}-1`,
    identifiers: ['a.example.org', 'b.example.org'],
    notBefore: new Date('2026-05-01T00:00:00Z'),
    notAfter: later,
    selfSigned: false,
    serialNumber: '01',
    issuer: 'CN=CA',
    ...overrides,
  };
}

const deployment: DeploymentSpec = {
  certificate: 'external',
  pool: 'lb',
  path: '/etc/haproxy/site.pem',
  file: '/srv/site.pem',
  copies: [],
  mode: 0o600,
  owner: undefined,
  group: undefined,
  takeOver: false,
};

const desired: DesiredPlace = {
  generation: 3,
  facts: facts('new'),
  pemSha256: 'sha-new',
  pemBytes: 5000,
  identifiers: ['a.example.org', 'b.example.org'],
  history: new Set(['old-256', 'old-1', 'new-256', 'new-1', 'boot-256', 'boot-1']),
  revoked: false,
};
const selfSignedDesired: DesiredPlace = { ...desired, facts: facts('new', { selfSigned: true }) };

const absent: FileObservation = { state: 'absent' };
const file = (
  held: CertificateFacts,
  sha256 = `sha-${held.fingerprint256}`,
  mode = 0o600,
): FileObservation => ({
  state: 'present',
  sha256,
  mode,
  uid: 0,
  gid: 0,
  content: { state: 'loadable', facts: held },
});
const newFile = file(desired.facts, 'sha-new');
const broken: FileObservation = {
  state: 'present',
  sha256: 'sha-broken',
  mode: 0o600,
  uid: 0,
  gid: 0,
  content: { state: 'broken', reason: 'the file is empty' },
};
const loaded = ({ fingerprint1, notAfter, selfSigned }: CertificateFacts): LoadedCertificate => ({
  fingerprint1,
  notAfter,
  selfSigned,
});

function host(
  place: { file: FileObservation; loaded?: LoadedCertificate; copies?: FileObservation[] },
  up = true,
  workers?: WorkersObservation,
): HostObservation {
  return {
    haproxy: up
      ? {
          state: 'running',
          version: '2.6.12',
          bufferBytes: 16_384,
          pendingTransaction: undefined,
          worker: undefined,
          workers,
        }
      : { state: 'stopped', reason: 'nothing listens' },
    places: { [deployment.path]: { file: place.file, copies: place.copies ?? [], loaded: place.loaded } },
  };
}

const decide = (
  wanted: DesiredPlace,
  where: DeploymentSpec,
  observed: HostObservation,
  reload: ReloadOption = { state: 'impossible' },
  paused?: FailedChanges,
) => decidePlace(wanted, where, observed, reload, now, paused);

const foreign = facts('foreign');
const old = facts('old', { notAfter: new Date('2026-06-10T00:00:00Z') });
const bootstrapped = facts('boot', { selfSigned: true });

describe('decidePlace does nothing', () => {
  test('when file and memory hold the bundle', () => {
    const decision = decide(desired, deployment, host({ file: newFile, loaded: loaded(desired.facts) }));
    expect(decision).toEqual({ action: 'none', memory: true, reason: 'file and memory hold the bundle' });
  });

  test('when the file holds it and HAProxy is stopped', () => {
    const decision = decide(desired, deployment, host({ file: newFile }, false));
    expect(decision).toMatchObject({ action: 'none', memory: false });
  });
});

describe('old workers', () => {
  const held = { file: newFile, loaded: loaded(desired.facts) };

  test('that only serve their connections to the end are as it should be', () => {
    const observed = host(held, true, { current: 1, old: 2, listening: [] });
    expect(decide(desired, deployment, observed)).toMatchObject({ action: 'none' });
  });

  test('that still listen keep the host from being in sync', () => {
    const observed = host(held, true, { current: 1, old: 2, listening: [71, 72] });
    expect(decide(desired, deployment, observed)).toEqual({
      action: 'leave',
      state: 'out of sync',
      reason: expect.stringContaining(
        '2 old workers of HAProxy still listen, or do not answer (pids 71, 72)',
      ),
    });
  });

  test('that still listen remain after a change', () => {
    const observed = host({ file: file(old), loaded: loaded(old) }, true, {
      current: 1,
      old: 1,
      listening: [71],
    });
    expect(decide(desired, deployment, observed)).toMatchObject({
      action: 'change',
      remains: expect.stringContaining('an old worker of HAProxy still listens, or does not answer (pid 71)'),
    });
  });
});

describe('decidePlace changes', () => {
  test.each([
    {
      when: 'nothing is there and HAProxy is stopped',
      observed: host({ file: absent }, false),
      writeFile: true,
      means: 'install',
      reason: /is missing/,
    },
    {
      when: 'our older bundle is in file and memory',
      observed: host({ file: file(old), loaded: loaded(old) }),
      writeFile: true,
      means: 'swap',
      reason: /another certificate/,
    },
    {
      when: 'HAProxy was restarted with an old file',
      observed: host({ file: newFile, loaded: loaded(old) }),
      writeFile: false,
      means: 'swap',
      reason: /in memory/,
    },
    {
      when: 'the file was lost while memory is right',
      observed: host({ file: absent, loaded: loaded(desired.facts) }),
      writeFile: true,
      means: 'install',
      reason: /is missing/,
    },
    {
      when: 'the file is empty',
      observed: host({ file: broken, loaded: loaded(desired.facts) }),
      writeFile: true,
      means: 'install',
      reason: /the file is empty/,
    },
    {
      when: 'its mode is too open',
      observed: host({ file: file(desired.facts, 'sha-new', 0o644), loaded: loaded(desired.facts) }),
      writeFile: true,
      means: 'install',
      reason: /mode 0644 instead of 0600/,
    },
    {
      when: 'a self-signed one is there',
      observed: host({ file: file(bootstrapped), loaded: loaded(bootstrapped) }),
      writeFile: true,
      means: 'swap',
      reason: /another certificate/,
    },
    {
      when: 'a self-signed one that is not ours is there',
      observed: host({
        file: file(facts('theirs', { selfSigned: true })),
        loaded: loaded(facts('theirs', { selfSigned: true })),
      }),
      writeFile: true,
      means: 'swap',
      reason: /another/,
    },
    {
      when: 'a foreign one has expired',
      observed: host({
        file: file({ ...foreign, notAfter: earlier }),
        loaded: loaded({ ...foreign, notAfter: earlier }),
      }),
      writeFile: true,
      means: 'swap',
      reason: /another/,
    },
  ])('when $when', ({ observed, writeFile, means, reason }) => {
    const decision = decide(desired, deployment, observed);
    expect(decision).toMatchObject({ action: 'change', writeFile, means, remains: undefined });
    expect(decision.reason).toMatch(reason);
  });

  test('when one of the copies differs', () => {
    const copied = { ...deployment, copies: ['/srv/copy.pem'] };
    const observed = host({ file: newFile, loaded: loaded(desired.facts), copies: [file(old)] });
    expect(decide(desired, copied, observed)).toMatchObject({
      action: 'change',
      writeFile: true,
      means: 'install',
      reason: expect.stringMatching(/^\/srv\/copy\.pem holds another certificate/),
    });
  });

  test.each([
    { what: 'nothing', observed: host({ file: absent }), action: 'change' },
    { what: 'one of before', observed: host({ file: file(old), loaded: loaded(old) }), action: 'leave' },
    {
      what: 'one of before in memory',
      observed: host({ file: absent, loaded: loaded(old) }),
      action: 'leave',
    },
  ])(
    'half a dual certificate waits for a bundle of its family, holding $what: $action',
    ({ observed, action }) => {
      const half = { ...deployment, family: 'ecdsa' as const };
      const other = { ...desired, facts: facts('new', { family: 'rsa' }) };
      expect(decide(other, half, observed)).toMatchObject({ action });
      const own = { ...desired, facts: facts('new', { family: 'ecdsa' }) };
      expect(decide(own, half, observed)).toMatchObject({ action: 'change' });
    },
  );

  test('a foreign certificate where the deployment says takeOver', () => {
    const observed = host({ file: file(foreign), loaded: loaded(foreign) });
    expect(decide(desired, { ...deployment, takeOver: true }, observed)).toMatchObject({
      action: 'change',
      writeFile: true,
      means: 'swap',
    });
  });

  test('only the file when HAProxy does not know the path, and says what remains', () => {
    expect(decide(desired, deployment, host({ file: absent }))).toMatchObject({
      action: 'change',
      writeFile: true,
      means: 'install',
      remains: expect.stringContaining('crt argument'),
    });
  });

  test("only the file when the bundle does not fit HAProxy's buffer", () => {
    const big = { ...desired, pemBytes: 16_384 - deployment.path.length - 64 };
    expect(decide(big, deployment, host({ file: file(old), loaded: loaded(old) }))).toMatchObject({
      action: 'change',
      writeFile: true,
      means: 'install',
      remains: expect.stringContaining('tune.bufsize'),
    });
    const fits = { ...big, pemBytes: big.pemBytes - 1 };
    expect(decide(fits, deployment, host({ file: file(old), loaded: loaded(old) }))).toMatchObject({
      means: 'swap',
    });
  });
});

describe('what HAProxy cannot be given while it runs', () => {
  const tooBig = { ...desired, pemBytes: 20_000 };
  const swappedElsewhere = host({ file: file(old), loaded: loaded(old) });
  const notLoaded = host({ file: newFile });
  const nothingThere = host({ file: absent });
  const waits = { state: 'waits', reason: 'waits for the maintenance window' } as const;

  test.each([
    {
      when: 'the bundle does not fit the buffer',
      wanted: tooBig,
      observed: swappedElsewhere,
      expected: {
        action: 'change',
        means: 'reload',
        writeFile: true,
        reason: /reload because the bundle of 20000/,
      },
    },
    {
      when: 'the file is right, and not loaded',
      wanted: desired,
      observed: notLoaded,
      expected: {
        action: 'change',
        means: 'reload',
        writeFile: false,
        reason: /^reload because HAProxy has no/,
      },
    },
    {
      when: 'nothing is there, nor loaded',
      wanted: desired,
      observed: nothingThere,
      expected: { action: 'change', means: 'reload', writeFile: true, reason: /is missing; reload because/ },
    },
  ])('comes by a reload when $when', ({ wanted, observed, expected: { reason, ...expected } }) => {
    const decision = decide(wanted, deployment, observed, { state: 'possible' });
    expect(decision).toMatchObject({ ...expected, remains: undefined });
    expect(decision.reason).toMatch(reason);
  });

  test('waits together with its file, so that both can be undone', () => {
    expect(decide(tooBig, deployment, swappedElsewhere, waits)).toMatchObject({
      action: 'leave',
      state: 'out of sync',
      reason: expect.stringMatching(/does not fit .*; waits for the maintenance window$/),
    });
  });

  test('does not wait with a file that HAProxy could not start without', () => {
    const lost = host({ file: absent, loaded: loaded(old) });
    for (const observed of [nothingThere, lost]) {
      expect(decide(tooBig, deployment, observed, waits)).toMatchObject({
        action: 'change',
        means: 'install',
        writeFile: true,
        remains: expect.stringContaining('waits for the maintenance window'),
      });
    }
  });

  test('is not reloaded for while a swap does it', () => {
    expect(decide(desired, deployment, swappedElsewhere, { state: 'possible' })).toMatchObject({
      means: 'swap',
    });
  });
});

describe('a place whose last change failed', () => {
  const paused: FailedChanges = {
    failures: 1,
    until: later,
    failure: { code: 'ERR_HOST_UNVERIFIED', message: 'lb/one: presents another', retry: 'later' },
    means: 'swap',
    generation: desired.generation,
  };
  const decidePaused = (observed: HostObservation, wanted = desired, reload?: ReloadOption) =>
    decide(wanted, deployment, observed, reload, paused);
  const reason = new RegExp(
    `; the last change failed, the next attempt is at ${later.toISOString()}: lb/one: presents another$`,
  );

  test('waits, and says until when and why', () => {
    const outdated = host({ file: file(old), loaded: loaded(old) });
    const expected = { action: 'leave', state: 'out of sync', reason: expect.stringMatching(reason), paused };
    expect(decidePaused(outdated)).toEqual(expected);
    const tooBig = { ...desired, pemBytes: 20_000 };
    expect(decidePaused(outdated, tooBig, { state: 'possible' })).toEqual(expected);
  });

  test('gets back a file that HAProxy could not start without', () => {
    expect(decidePaused(host({ file: absent, loaded: loaded(old) }))).toMatchObject({
      action: 'change',
      means: 'install',
      remains: expect.stringMatching(reason),
    });
  });

  test.each([
    { how: 'HAProxy is stopped', observed: host({ file: file(old) }, false), action: 'change' },
    {
      how: 'it is in sync',
      observed: host({ file: newFile, loaded: loaded(desired.facts) }),
      action: 'none',
    },
  ])('does not wait when $how', ({ observed, action }) => {
    expect(decidePaused(observed)).toMatchObject({ action });
  });
});

describe('a deployment with a crt-list', () => {
  const listed = { ...deployment, crtList: { path: '/etc/haproxy/list', file: '/srv/list' } };
  const seen = (
    place: Parameters<typeof host>[0],
    crtList: { inFile: boolean; inMemory: 'listed' | 'addable' | 'fixed' | undefined },
    up = true,
  ): HostObservation => {
    const observed = host(place, up);
    const found = observed.places[deployment.path];
    if (found === undefined) throw new Error('the place was not observed');
    return { ...observed, places: { [deployment.path]: { ...found, crtList } } };
  };
  const held = { file: newFile, loaded: loaded(desired.facts) };

  test.each([
    {
      when: 'HAProxy knows nothing of it yet',
      observed: seen({ file: absent }, { inFile: false, inMemory: 'addable' }),
      expected: { means: 'add', writeFile: true, listFile: true },
    },
    {
      when: 'only its line in memory is missing',
      observed: seen(held, { inFile: true, inMemory: 'addable' }),
      expected: { means: 'add', writeFile: false, listFile: false },
    },
    {
      when: 'an older one is loaded, and not listed',
      observed: seen({ file: newFile, loaded: loaded(old) }, { inFile: true, inMemory: 'addable' }),
      expected: { means: 'add', writeFile: false, listFile: false },
    },
    {
      when: 'an older one is loaded and listed',
      observed: seen({ file: file(old), loaded: loaded(old) }, { inFile: true, inMemory: 'listed' }),
      expected: { means: 'swap', writeFile: true, listFile: false },
    },
    {
      when: 'the file of the list would forget it',
      observed: seen(held, { inFile: false, inMemory: 'listed' }),
      expected: { means: 'install', writeFile: false, listFile: true },
    },
    {
      when: 'HAProxy is stopped',
      observed: seen({ file: absent }, { inFile: false, inMemory: undefined }, false),
      expected: { means: 'install', writeFile: true, listFile: true },
    },
    {
      when: 'HAProxy cannot add to it',
      observed: seen({ file: absent }, { inFile: false, inMemory: 'fixed' }),
      expected: { means: 'reload', writeFile: true, listFile: true },
    },
  ])('is changed by the means that fit when $when', ({ observed, expected }) => {
    expect(decide(desired, listed, observed, { state: 'possible' })).toMatchObject({
      action: 'change',
      ...expected,
    });
  });

  test.each([
    { when: 'nothing of it is there', place: { file: absent }, inMemory: 'addable' },
    { when: 'its file is there', place: { file: newFile }, inMemory: 'addable' },
    { when: 'a reload would have to load it', place: { file: absent }, inMemory: 'fixed' },
  ] as const)(
    'is not listed while HAProxy is left alone after it failed the change, and $when',
    ({ place, inMemory }) => {
      const paused: FailedChanges = {
        failures: 1,
        until: later,
        failure: { code: 'ERR_HAPROXY_REFUSED', message: 'lb/one: refused', retry: 'later' },
        means: 'add',
        generation: desired.generation,
      };
      const observed = seen(place, { inFile: false, inMemory });
      expect(decide(desired, listed, observed, { state: 'possible' }, paused)).toMatchObject({
        action: 'leave',
        state: 'out of sync',
        paused,
      });
      const named = seen({ file: absent }, { inFile: true, inMemory });
      expect(decide(desired, listed, named, { state: 'possible' }, paused)).toMatchObject({
        action: 'change',
        means: 'install',
      });
    },
  );

  test('is as it should be when file, memory and both lists hold it', () => {
    expect(decide(desired, listed, seen(held, { inFile: true, inMemory: 'listed' }))).toMatchObject({
      action: 'none',
      memory: true,
    });
  });

  test('is not added with a bundle that does not fit the buffer', () => {
    const observed = seen({ file: absent }, { inFile: false, inMemory: 'addable' });
    expect(decide({ ...desired, pemBytes: 20_000 }, listed, observed, { state: 'possible' })).toMatchObject({
      means: 'reload',
    });
  });
});

describe('a revoked bundle', () => {
  const revoked: DesiredPlace = { ...desired, revoked: true };

  test('is served on by a host that holds it, until its successor comes', () => {
    const decision = decide(revoked, deployment, host({ file: newFile, loaded: loaded(desired.facts) }));
    expect(decision).toMatchObject({ action: 'none' });
  });

  test.each([
    { what: 'has nothing', place: { file: absent } },
    { what: 'has it in its file only', place: { file: newFile, loaded: loaded(old) } },
  ])('is not installed on a host that $what', ({ place }) => {
    const decision = decide(revoked, deployment, host(place));
    expect(decision).toMatchObject({
      action: 'leave',
      state: 'out of sync',
      reason: expect.stringContaining('revoked'),
    });
  });
});

describe('decidePlace leaves alone', () => {
  test.each([
    {
      when: 'a foreign certificate in the file',
      desired,
      observed: host({ file: file(foreign), loaded: loaded(old) }),
      state: 'foreign',
      reason: /file holds a valid certificate that is not kacme's/,
    },
    {
      when: 'a foreign certificate in memory only',
      desired,
      observed: host({ file: newFile, loaded: loaded(foreign) }),
      state: 'foreign',
      reason: /memory holds/,
    },
    {
      when: 'a foreign certificate at bootstrap',
      desired: selfSignedDesired,
      observed: host({ file: file(foreign) }, false),
      state: 'foreign',
      reason: /not kacme's/,
    },
    {
      when: 'our valid certificate at bootstrap',
      desired: selfSignedDesired,
      observed: host({ file: file(old), loaded: loaded(old) }),
      state: 'kept',
      reason: /self-signed one would be worse/,
    },
    {
      when: 'our valid one when the bundle has expired',
      desired: { ...desired, facts: facts('new', { notAfter: earlier }) },
      observed: host({ file: file(old), loaded: loaded(old) }),
      state: 'kept',
      reason: /the bundle has expired/,
    },
    {
      when: 'one that covers a configured name which the bundle lacks',
      desired: { ...desired, facts: facts('new', { identifiers: ['a.example.org'] }) },
      observed: host({ file: file(old), loaded: loaded(old) }),
      state: 'kept',
      reason: /covers b\.example\.org/,
    },
  ])('$when', ({ desired, observed, state, reason }) => {
    const decision = decide(desired, deployment, observed);
    expect(decision).toMatchObject({ action: 'leave', state });
    expect(decision.reason).toMatch(reason);
  });

  test('a right file that HAProxy does not know, and tells the remedy', () => {
    expect(decide(desired, deployment, host({ file: newFile }))).toMatchObject({
      action: 'leave',
      state: 'out of sync',
      reason: expect.stringContaining('crt argument'),
    });
  });
});

test('a removed name blocks nothing', () => {
  const wide = facts('old', { identifiers: ['a.example.org', 'b.example.org', 'gone.example.org'] });
  const observed = host({ file: file(wide), loaded: loaded(wide) });
  expect(decide(desired, deployment, observed)).toMatchObject({
    action: 'change',
    writeFile: true,
    means: 'swap',
  });
});
