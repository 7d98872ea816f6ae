import { describe, expect, test } from 'vitest';
import type { DeploymentSpec } from '../../../src/domain/model.ts';
import type {
  FileObservation,
  HostObservation,
  LoadedCertificate,
  WorkersObservation,
} from '../../../src/domain/observation.ts';
import { type DesiredPlace, decidePlace } from '../../../src/domain/place-decision.ts';
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
          workers,
        }
      : { state: 'stopped', reason: 'nothing listens' },
    places: { [deployment.path]: { file: place.file, copies: place.copies ?? [], loaded: place.loaded } },
  };
}

const foreign = facts('foreign');
const old = facts('old', { notAfter: new Date('2026-06-10T00:00:00Z') });
const bootstrapped = facts('boot', { selfSigned: true });

describe('decidePlace does nothing', () => {
  test('when file and memory hold the bundle', () => {
    const decision = decidePlace(
      desired,
      deployment,
      host({ file: newFile, loaded: loaded(desired.facts) }),
      now,
    );
    expect(decision).toEqual({ action: 'none', memory: true, reason: 'file and memory hold the bundle' });
  });

  test('when the file holds it and HAProxy is stopped', () => {
    const decision = decidePlace(desired, deployment, host({ file: newFile }, false), now);
    expect(decision).toMatchObject({ action: 'none', memory: false });
  });
});

describe('old workers', () => {
  const held = { file: newFile, loaded: loaded(desired.facts) };

  test('that only serve their connections to the end are as it should be', () => {
    const observed = host(held, true, { current: 1, old: 2, listening: [] });
    expect(decidePlace(desired, deployment, observed, now)).toMatchObject({ action: 'none' });
  });

  test('that still listen keep the host from being in sync', () => {
    const observed = host(held, true, { current: 1, old: 2, listening: [71, 72] });
    expect(decidePlace(desired, deployment, observed, now)).toEqual({
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
    expect(decidePlace(desired, deployment, observed, now)).toMatchObject({
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
      swap: false,
      reason: /is missing/,
    },
    {
      when: 'our older bundle is in file and memory',
      observed: host({ file: file(old), loaded: loaded(old) }),
      writeFile: true,
      swap: true,
      reason: /another certificate/,
    },
    {
      when: 'HAProxy was restarted with an old file',
      observed: host({ file: newFile, loaded: loaded(old) }),
      writeFile: false,
      swap: true,
      reason: /in memory/,
    },
    {
      when: 'the file was lost while memory is right',
      observed: host({ file: absent, loaded: loaded(desired.facts) }),
      writeFile: true,
      swap: false,
      reason: /is missing/,
    },
    {
      when: 'the file is empty',
      observed: host({ file: broken, loaded: loaded(desired.facts) }),
      writeFile: true,
      swap: false,
      reason: /the file is empty/,
    },
    {
      when: 'its mode is too open',
      observed: host({ file: file(desired.facts, 'sha-new', 0o644), loaded: loaded(desired.facts) }),
      writeFile: true,
      swap: false,
      reason: /mode 0644 instead of 0600/,
    },
    {
      when: 'a self-signed one is there',
      observed: host({ file: file(bootstrapped), loaded: loaded(bootstrapped) }),
      writeFile: true,
      swap: true,
      reason: /another certificate/,
    },
    {
      when: 'a self-signed one that is not ours is there',
      observed: host({
        file: file(facts('theirs', { selfSigned: true })),
        loaded: loaded(facts('theirs', { selfSigned: true })),
      }),
      writeFile: true,
      swap: true,
      reason: /another/,
    },
    {
      when: 'a foreign one has expired',
      observed: host({
        file: file({ ...foreign, notAfter: earlier }),
        loaded: loaded({ ...foreign, notAfter: earlier }),
      }),
      writeFile: true,
      swap: true,
      reason: /another/,
    },
  ])('when $when', ({ observed, writeFile, swap, reason }) => {
    const decision = decidePlace(desired, deployment, observed, now);
    expect(decision).toMatchObject({ action: 'change', writeFile, swap, remains: undefined });
    expect(decision.reason).toMatch(reason);
  });

  test('when one of the copies differs', () => {
    const copied = { ...deployment, copies: ['/srv/copy.pem'] };
    const observed = host({ file: newFile, loaded: loaded(desired.facts), copies: [file(old)] });
    expect(decidePlace(desired, copied, observed, now)).toMatchObject({
      action: 'change',
      writeFile: true,
      swap: false,
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
      expect(decidePlace(other, half, observed, now)).toMatchObject({ action });
      const own = { ...desired, facts: facts('new', { family: 'ecdsa' }) };
      expect(decidePlace(own, half, observed, now)).toMatchObject({ action: 'change' });
    },
  );

  test('a foreign certificate where the deployment says takeOver', () => {
    const observed = host({ file: file(foreign), loaded: loaded(foreign) });
    expect(decidePlace(desired, { ...deployment, takeOver: true }, observed, now)).toMatchObject({
      action: 'change',
      writeFile: true,
      swap: true,
    });
  });

  test('only the file when HAProxy does not know the path, and says what remains', () => {
    expect(decidePlace(desired, deployment, host({ file: absent }), now)).toMatchObject({
      action: 'change',
      writeFile: true,
      swap: false,
      remains: expect.stringContaining('crt argument'),
    });
  });

  test("only the file when the bundle does not fit HAProxy's buffer", () => {
    const big = { ...desired, pemBytes: 16_384 - deployment.path.length - 64 };
    expect(decidePlace(big, deployment, host({ file: file(old), loaded: loaded(old) }), now)).toMatchObject({
      action: 'change',
      writeFile: true,
      swap: false,
      remains: expect.stringContaining('tune.bufsize'),
    });
    const fits = { ...big, pemBytes: big.pemBytes - 1 };
    expect(decidePlace(fits, deployment, host({ file: file(old), loaded: loaded(old) }), now)).toMatchObject({
      swap: true,
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
    const decision = decidePlace(desired, deployment, observed, now);
    expect(decision).toMatchObject({ action: 'leave', state });
    expect(decision.reason).toMatch(reason);
  });

  test('a right file that HAProxy does not know, and tells the remedy', () => {
    expect(decidePlace(desired, deployment, host({ file: newFile }), now)).toMatchObject({
      action: 'leave',
      state: 'out of sync',
      reason: expect.stringContaining('crt argument'),
    });
  });
});

test('a removed name blocks nothing', () => {
  const wide = facts('old', { identifiers: ['a.example.org', 'b.example.org', 'gone.example.org'] });
  const observed = host({ file: file(wide), loaded: loaded(wide) });
  expect(decidePlace(desired, deployment, observed, now)).toMatchObject({
    action: 'change',
    writeFile: true,
    swap: true,
  });
});
