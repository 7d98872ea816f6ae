import { describe, expect, test } from 'vitest';
import { isHealthy, renderStatus } from '../../../src/cli/render/status.ts';
import { oneLine, viewOf } from '../../../src/cli/render/style.ts';
import { renderSummary } from '../../../src/cli/render/summary.ts';
import { renderTable } from '../../../src/cli/render/table.ts';
import {
  renderDuration,
  renderMoment,
  renderRelative,
  withShortDates,
} from '../../../src/cli/render/time.ts';
import type {
  CertificateStatus,
  DiscoveryStatus,
  PlaceState,
  Status,
  Summary,
} from '../../../src/domain/status.ts';
import { TextOutput } from './fake-context.ts';
import { NOW, STATUS, SUMMARY } from './fake-service.ts';

const PIPED = { colour: false, columns: undefined };
const ESCAPE = '\u001b';

function withCertificate(change: Partial<CertificateStatus>): Status {
  return {
    ...STATUS,
    hosts: [],
    certificates: STATUS.certificates.map((certificate) => ({ ...certificate, ...change })),
  };
}

function withPlace(state: PlaceState): Status {
  return {
    ...STATUS,
    hosts: STATUS.hosts.map((host) => ({
      ...host,
      reachable: true,
      places: host.places.map((place) => ({ ...place, state })),
    })),
  };
}

const FAILING = withCertificate({
  lastFailure: {
    code: 'ERR_ACME_UNREACHABLE',
    message: 'get https://ca.test/directory: connection refused',
    retry: 'later',
    remedy: 'open the way to the CA',
    at: '2026-03-01T11:55:00Z',
    failures: 2,
    notBefore: '2026-03-01T12:05:00Z',
  },
  next: 'waits until 2026-03-01T12:05:00Z: renewal due; backing off',
});

test('status is two aligned tables and every failure in full', () => {
  expect(renderStatus(STATUS, NOW, PIPED)).toBe(`kacme leading: this service acts (2026-03-01 12:00Z)

CERTIFICATE  STATE  ISSUER       EXPIRES  NEXT
external     valid  letsencrypt  in 61 d  waits until 2026-04-01 07:13Z: not due

POOL           HOST       CERTIFICATE  STATE        REASON
loadbalancers  10.0.0.11  external     in sync      file and memory hold the bundle
loadbalancers  10.0.0.12  external     unreachable  connect: connection refused

FAILURES
host 10.0.0.12 of loadbalancers (external): ERR_HOST_UNREACHABLE
  loadbalancers/10.0.0.12 (10.0.0.12:2985): connect: connection refused
  what to do: start sshd there
  what happens next: kacme tries again by itself within 30 s of the host being reachable
`);
});

test('key types are shown where certificates differ in them, as the halves of a dual one do', () => {
  const [half] = STATUS.certificates;
  const other = { ...half, name: 'external-rsa', key: 'rsa-2048' } as CertificateStatus;
  expect(
    renderStatus({ ...STATUS, hosts: [], certificates: [...STATUS.certificates, other] }, NOW, PIPED),
  ).toContain(`
CERTIFICATE   KEY         STATE  ISSUER       EXPIRES  NEXT
external      ecdsa-p256  valid  letsencrypt  in 61 d  waits until 2026-04-01 07:13Z: not due
external-rsa  rsa-2048    valid  letsencrypt  in 61 d  waits until 2026-04-01 07:13Z: not due
`);
});

test('a failed certificate says how often, since when, and when it is tried again', () => {
  expect(renderStatus(FAILING, NOW, PIPED)).toContain(`FAILURES
certificate external, failed 2 times in a row, last 5 min ago: ERR_ACME_UNREACHABLE
  get https://ca.test/directory: connection refused
  what to do: open the way to the CA
  what happens next: waits until 2026-03-01 12:05Z: renewal due; backing off (in 5 min)
`);
});

test('a failure shared by all certificates of a host is said once', () => {
  const doubled: Status = {
    ...STATUS,
    hosts: STATUS.hosts.map((host) => ({
      ...host,
      places: [...host.places, ...host.places.map((place) => ({ ...place, certificate: 'internal' }))],
    })),
  };
  const text = renderStatus(doubled, NOW, PIPED);
  expect(text.match(/what to do/g)).toHaveLength(1);
  expect(text).toContain('host 10.0.0.12 of loadbalancers (external, internal)');
});

/** Places that fail as a host does that is down, one on each host. */
function unreachable(hosts: readonly string[]): Summary['places'] {
  return hosts.map((host) => {
    const message = `lb/${host} (${host}:22): connect: nothing listens there`;
    return {
      pool: 'lb',
      host,
      certificate: 'external',
      path: '/crt.pem',
      action: 'failed',
      inSync: false,
      reason: message,
      failure: {
        code: 'ERR_HOST_UNREACHABLE',
        message,
        retry: 'later',
        remedy: `see that an sshd listens at ${host}:22`,
      },
    };
  });
}

test('hosts of a pool that fail alike are told of once, the others by themselves', () => {
  const [refused, ...alike] = unreachable(['10.0.0.1', '10.0.0.11', '10.0.0.12']);
  const other = {
    ...refused,
    reason: 'log in: refused',
    failure: { code: 'ERR_HOST_LOGIN_REFUSED', message: 'lb/10.0.0.1: log in: refused', retry: 'never' },
  } as Summary['places'][number];
  expect(
    renderSummary({ outcome: 'failed', certificates: [], places: [other, ...alike] }, PIPED),
  ).toBe(`POOL  HOST       CERTIFICATE  ACTION  IN SYNC  REASON
lb    10.0.0.1   external     failed  no       log in: refused
lb    10.0.0.11  external     failed  no       connect: nothing listens there
lb    10.0.0.12  external     failed  no       connect: nothing listens there

FAILURES
host 10.0.0.1 of lb (external): ERR_HOST_LOGIN_REFUSED
  lb/10.0.0.1: log in: refused
  what happens next: nothing until this is repaired; then a running service goes on by itself, or run the command again
2 hosts of lb (external): ERR_HOST_UNREACHABLE
  10.0.0.11, 10.0.0.12
  connect: nothing listens there
  what to do: see that an sshd listens at {host}:22
  what happens next: a running service tries again by itself; without one, run the command again

failed: 0 of 3 places in sync
`);
});

test('without a service, status says that nothing happens until one runs', () => {
  const text = renderStatus({ ...STATUS, role: 'offline' }, NOW, PIPED);
  expect(text).toContain('kacme offline');
  expect(text).toContain('what happens next: nothing until');
});

test('an empty configuration is said in words', () => {
  const text = renderStatus({ ...STATUS, certificates: [], hosts: [] }, NOW, PIPED);
  expect(text).toContain('no certificates are configured\n');
  expect(text).toContain('no deployments are configured\n');
});

test('on a terminal no line of a table is wider than it, when piped nothing is cut', () => {
  const tables = renderStatus(STATUS, NOW, { colour: false, columns: 80 }).split('FAILURES')[0] ?? '';
  expect(tables.split('\n').every((line) => line.length <= 80)).toBe(true);
  expect(tables).toContain('…');
  expect(tables).toContain('2026-04-01 07:13Z');
  expect(renderStatus(STATUS, NOW, PIPED)).not.toMatch(/…|\t/);
});

test('on a narrow terminal the explanations get lines of their own, and hosts keep their names', () => {
  expect(renderStatus(STATUS, NOW, { colour: false, columns: 62 })).toContain(`
POOL           HOST       CERTIFICATE  STATE
  REASON
loadbalancers  10.0.0.11  external     in sync
  file and memory hold the bundle
loadbalancers  10.0.0.12  external     unreachable
  connect: connection refused
`);
});

test('the colours of a terminal do not move the columns', () => {
  const plain = renderStatus(STATUS, NOW, { colour: false, columns: 80 });
  const coloured = renderStatus(STATUS, NOW, { colour: true, columns: 80 });
  expect(coloured).toContain(ESCAPE);
  expect(oneLine(coloured)).toBe(oneLine(plain));
});

test.each([
  { when: 'on a terminal', columns: 80, env: {}, expected: { colour: true, columns: 80 } },
  { when: 'with NO_COLOR', columns: 80, env: { NO_COLOR: '1' }, expected: { colour: false, columns: 80 } },
  {
    when: 'with an empty NO_COLOR',
    columns: 80,
    env: { NO_COLOR: '' },
    expected: { colour: true, columns: 80 },
  },
  {
    when: 'on a dumb terminal',
    columns: 80,
    env: { TERM: 'dumb' },
    expected: { colour: false, columns: 80 },
  },
  {
    when: 'where the width is not known',
    columns: 0,
    env: {},
    expected: { colour: true, columns: undefined },
  },
  { when: 'when piped', columns: undefined, env: {}, expected: PIPED },
])('colour is $expected.colour and width $expected.columns $when', ({ columns, env, expected }) => {
  expect(viewOf(new TextOutput(columns), env)).toEqual(expected);
});

test('words of others cannot steer the terminal', () => {
  expect(oneLine('refused\r\n\u001b[2J\u001b]0;owned\u0007 now\t!')).toBe('refused  now !');
  const text = renderStatus(withCertificate({ next: '\u001b[31mred\nCERTIFICATE faked' }), NOW, PIPED);
  expect(text).not.toContain(ESCAPE);
  expect(text).not.toContain('\nCERTIFICATE faked');
});

test.each([
  { what: 'all is in sync', status: withPlace('in sync'), healthy: true },
  { what: 'a place is unverified', status: withPlace('unverified'), healthy: true },
  { what: 'HAProxy is stopped', status: withPlace('file only'), healthy: true },
  { what: 'a better one was kept', status: withPlace('kept'), healthy: true },
  { what: 'a foreign certificate was left', status: withPlace('foreign'), healthy: true },
  { what: 'a place is out of sync', status: withPlace('out of sync'), healthy: false },
  { what: 'a place failed', status: withPlace('failed'), healthy: false },
  { what: 'a host is unreachable', status: STATUS, healthy: false },
  { what: 'an issuance failed', status: FAILING, healthy: false },
  { what: 'it is self-signed yet', status: withCertificate({ state: 'self-signed' }), healthy: true },
  { what: 'it has expired', status: withCertificate({ state: 'expired' }), healthy: false },
  { what: 'there is none', status: withCertificate({ state: 'missing' }), healthy: false },
])('health is $healthy when $what', ({ status, healthy }) => {
  expect(isHealthy(status)).toBe(healthy);
});

test('a summary lists certificates, places and failures, and ends with its outcome', () => {
  expect(renderSummary(SUMMARY, PIPED)).toBe(`CERTIFICATE  ACTION  REASON
external     issued  renewal due

POOL           HOST       CERTIFICATE  ACTION   IN SYNC  REASON
loadbalancers  10.0.0.11  external     swapped  yes      file holds another certificate
loadbalancers  10.0.0.12  external     failed   no       connect: connection refused

FAILURES
host 10.0.0.12 of loadbalancers (external): ERR_HOST_UNREACHABLE
  loadbalancers/10.0.0.12 (10.0.0.12:2985): connect: connection refused
  what to do: start sshd there
  what happens next: a running service tries again by itself; without one, run the command again

partly: 1 of 1 certificate new, 1 of 2 places in sync
`);
});

test('a dry run says what would be new, an empty summary that there is nothing to do', () => {
  const planned = {
    certificate: 'external',
    action: 'planned',
    reason: 'renewal due',
    failure: undefined,
  } as const;
  expect(renderSummary({ outcome: 'done', certificates: [planned], places: [] }, PIPED)).toContain(
    'done: 1 of 1 certificate would be new\n',
  );
  expect(renderSummary({ outcome: 'done', certificates: [], places: [] }, PIPED)).toBe(
    'done: nothing to do\n',
  );
});

test('a table narrower than its smallest columns is as narrow as they allow', () => {
  const rows = [['a-long-name', 'a reason that is much too long']];
  expect(renderTable(['NAME', 'REASON'], rows, { colour: false, columns: 5 })).toBe(
    'NAME\n  REASON\na-lon…\n  a rea…\n',
  );
});

test.each([
  { ms: 999, expected: '0 s' },
  { ms: 119_999, expected: '119 s' },
  { ms: 120_000, expected: '2 min' },
  { ms: 7_199_999, expected: '119 min' },
  { ms: 7_200_000, expected: '2 h' },
  { ms: 172_799_999, expected: '47 h' },
  { ms: -172_800_000, expected: '2 d' },
])('$ms ms is $expected', ({ ms, expected }) => {
  expect(renderDuration(ms)).toBe(expected);
});

test('dates are relative to now, exact ones are UTC, and none is a dash', () => {
  expect(renderRelative('2026-02-26T11:00:00Z', NOW)).toBe('3 d ago');
  expect(renderRelative(NOW.toISOString(), NOW)).toBe('in 0 s');
  expect(renderRelative(undefined, NOW)).toBe('-');
  expect(renderMoment('2026-03-01T12:00:59+02:00')).toBe('2026-03-01 10:00Z');
  expect(renderMoment(undefined)).toBe('-');
});

test('dates in a text are short, what only looks like one stays', () => {
  expect(withShortDates('until 2026-04-01T07:13:21.000Z, not 2026-99-01T07:13:21Z')).toBe(
    'until 2026-04-01 07:13Z, not 2026-99-01T07:13:21Z',
  );
});

describe('where hosts are learned from', () => {
  const learned: DiscoveryStatus = {
    pool: 'lb',
    source: 'SRV records of _ssh._tcp.test',
    hosts: 2,
    answeredAt: '2026-03-01T11:59:30Z',
    missing: [],
    leftOut: [],
    doubts: [],
    failure: undefined,
  };
  const shown = (change: Partial<DiscoveryStatus>) =>
    renderStatus({ ...STATUS, discoveries: [{ ...learned, ...change }] }, NOW, PIPED);

  test.each<{ what: string; change: Partial<DiscoveryStatus>; says: RegExp }>([
    { what: 'an answer', change: {}, says: /^lb +2 +SRV records of _ssh._tcp.test +30 s ago +known +-$/m },
    { what: 'no answer yet', change: { answeredAt: undefined }, says: /- +unknown +not asked yet$/m },
    { what: 'a host that is missing', change: { missing: ['lb2'] }, says: /known +no longer named.*: lb2$/m },
    {
      what: 'a host that is left out',
      change: { leftOut: [{ name: 'lb2', reason: 'its HAProxy is a/b already' }] },
      says: /in part +lb2 is left out: its HAProxy is a\/b already$/m,
    },
    { what: 'an answer in part', change: { doubts: ['AAAA: SERVFAIL'] }, says: /in part +AAAA: SERVFAIL$/m },
  ])('is shown after $what', ({ change, says }) => {
    expect(shown(change)).toMatch(says);
  });

  test('is told as a failure, and counts as one', () => {
    const failure = {
      code: 'ERR_HOSTS_UNKNOWN',
      message: 'learn hosts from DNS: SERVFAIL',
      retry: 'later',
      remedy: 'correct the records',
      since: '2026-03-01T11:50:00Z',
    } as const;
    expect(shown({ failure })).toContain(`hosts of lb, failing since 10 min ago: ERR_HOSTS_UNKNOWN
  learn hosts from DNS: SERVFAIL
  what to do: correct the records
  what happens next: kacme asks again within a minute; meanwhile those known before are served (2)
`);
    const healthy = { ...withPlace('in sync'), discoveries: [learned] };
    expect(isHealthy(healthy)).toBe(true);
    expect(isHealthy({ ...healthy, discoveries: [{ ...learned, failure }] })).toBe(false);
  });
});
