import { describe, expect, test } from 'vitest';
import { KacmeError } from '../../../src/domain/errors.ts';
import { checkOutcome, Findings } from '../../../src/domain/finding.ts';
import {
  type HostFacts,
  type HostTrial,
  judgeHost,
  judgeUnreadableHost,
} from '../../../src/domain/host-check.ts';
import type { DeploymentSpec } from '../../../src/domain/model.ts';
import type { FileObservation, HostObservation } from '../../../src/domain/observation.ts';

const PATH = '/etc/haproxy/certificates/site.pem';
const deployment: DeploymentSpec = {
  certificate: 'site',
  family: 'ecdsa',
  pool: 'lb',
  path: PATH,
  file: PATH,
  copies: [],
  mode: 0o600,
  owner: undefined,
  group: undefined,
  takeOver: false,
};
const facts = {
  serialNumber: '01',
  subject: 'CN=site.test',
  issuer: 'CN=ca.test',
  identifiers: ['site.test'],
  notBefore: new Date('2026-01-01'),
  notAfter: new Date('2027-01-01'),
  selfSigned: false,
  fingerprint1: 'ab',
  fingerprint256: 'cd',
};
const file = {
  state: 'present' as const,
  sha256: 'ef',
  mode: 0o600,
  uid: 42454,
  gid: 42454,
  content: { state: 'loadable' as const, facts },
};
const running = {
  state: 'running',
  version: '2.6.12-1+deb12u4',
  bufferBytes: 16_384,
  pendingTransaction: undefined,
  worker: undefined,
  workers: undefined,
} as const;
const loaded = { fingerprint1: 'ab', notAfter: new Date('2027-01-01'), selfSigned: false };
const fine: HostTrial = {
  socketLevel: 'admin',
  directories: [{ path: '/etc/haproxy/certificates', refusal: undefined }],
};

interface Given extends Partial<Omit<HostFacts, 'observation'>> {
  readonly haproxy?: HostObservation['haproxy'];
  readonly file?: FileObservation;
  readonly loaded?: typeof loaded | undefined;
}

function judge(given: Given = {}) {
  const { haproxy = running, ...rest } = given;
  const place = {
    file: given.file ?? file,
    copies: [],
    loaded: 'loaded' in given ? given.loaded : loaded,
  };
  return judgeHost({
    subject: 'lb/10.0.0.11',
    deployments: [deployment],
    trial: 'trial' in given ? given.trial : fine,
    reloads: false,
    bundleBytes: new Map([[PATH, 5_000]]),
    ...rest,
    observation: { haproxy, places: { [PATH]: place } },
  });
}

const telling = (given: Given) => judge(given).filter(({ state }) => state !== 'ok');

describe('a host', () => {
  test('on which all is well has nothing but good findings', () => {
    expect(judge().map(({ check, state }) => `${check} ${state}`)).toEqual([
      'login ok',
      'haproxy ok',
      'socket level ok',
      'buffer ok',
      'directory ok',
      'file ok',
    ]);
  });

  test.each<{ when: string; given: Given; check: string; state: string; says: RegExp; remedy: RegExp }>([
    {
      when: 'HAProxy is stopped',
      given: { haproxy: { state: 'stopped', reason: 'nothing answers at /s' } },
      check: 'haproxy',
      state: 'warning',
      says: /nothing answers at \/s/,
      remedy: /start HAProxy/,
    },
    {
      when: 'HAProxy is too old',
      given: { haproxy: { ...running, version: '2.1.4' } },
      check: 'haproxy',
      state: 'failed',
      says: /version 2\.1\.4/,
      remedy: /2\.2 or newer/,
    },
    {
      when: 'the socket lets only look',
      given: { trial: { ...fine, socketLevel: 'operator' } },
      check: 'socket level',
      state: 'failed',
      says: /what a operator may do/,
      remedy: /level admin/,
    },
    {
      when: 'the bundle is larger than the buffer',
      given: { bundleBytes: new Map([[PATH, 16_350]]) },
      check: 'buffer',
      state: 'failed',
      says: /takes 164\d\d bytes as a command, HAProxy's buffer 16384/,
      remedy: /tune\.bufsize 32768/,
    },
    {
      when: 'the bundle is larger than the buffer, and HAProxy may be reloaded',
      given: { bundleBytes: new Map([[PATH, 16_350]]), reloads: true },
      check: 'buffer',
      state: 'warning',
      says: /each renewal is a reload/,
      remedy: /tune\.bufsize 32768/,
    },
    {
      when: 'nothing may be tried',
      given: { trial: undefined },
      check: 'directories',
      state: 'warning',
      says: /not tried/,
      remedy: /run kacme check again/,
    },
    {
      when: 'others can read the key',
      given: { file: { ...file, mode: 0o644 } },
      check: 'file',
      state: 'warning',
      says: /mode 0644/,
      remedy: /chmod 0600/,
    },
    {
      when: 'the file belongs to somebody else',
      given: { deployments: [{ ...deployment, owner: 0, group: 0 }] },
      check: 'file',
      state: 'warning',
      says: /belongs to 42454:42454, not to 0:0/,
      remedy: /owner and group/,
    },
    {
      when: 'the file is no bundle',
      given: { file: { ...file, content: { state: 'broken', reason: 'it holds no private key' } } },
      check: 'file',
      state: 'warning',
      says: /no private key/,
      remedy: /distribute/,
    },
    {
      when: 'HAProxy does not know the path',
      given: { loaded: undefined },
      check: 'crt',
      state: 'warning',
      says: /no certificate loaded under/,
      remedy: /crt argument/,
    },
  ])('tells when $when', ({ given, check, state, says, remedy }) => {
    expect(telling(given)).toMatchObject([
      {
        check,
        state,
        subject: 'lb/10.0.0.11',
        reason: expect.stringMatching(says),
        remedy: expect.stringMatching(remedy),
      },
    ]);
  });

  test('whose directory is not writable is told that overwriting in place is no way out', () => {
    const refusal = new KacmeError('ERR_HOST_NOT_WRITABLE', 'permission denied', {
      retry: 'never',
      remedy: 'let it write',
    });
    const trial = { ...fine, directories: [{ path: '/etc/haproxy/certificates', refusal }] };
    expect(telling({ trial })).toMatchObject([
      { check: 'directory', state: 'failed', code: 'ERR_HOST_NOT_WRITABLE', remedy: 'let it write' },
      { check: 'directory', state: 'warning', reason: expect.stringContaining('overwritten in place') },
    ]);
    expect(telling({ trial, file: { state: 'absent' } })).toHaveLength(1);
  });

  test.each([
    { code: 'ERR_HOST_LOGIN_REFUSED', check: 'login' },
    { code: 'ERR_HAPROXY_SOCKET', check: 'haproxy' },
    { code: 'ERR_HOST_FILES', check: 'files' },
  ] as const)('that ends in $code failed at its $check', ({ code, check }) => {
    const error = new KacmeError(code, 'no', { retry: 'never', remedy: 'do' });
    expect(judgeUnreadableHost('lb/a', error)).toMatchObject([
      { check, code, state: 'failed', remedy: 'do' },
    ]);
  });
});

describe('the outcome', () => {
  const host = (subject: string, state: 'ok' | 'failed') => {
    const findings = new Findings('hosts', subject);
    if (state === 'ok') findings.ok('login', '');
    else findings.failed('login', '', undefined);
    return findings.list;
  };
  const name = (state: 'warning' | 'failed') => {
    const findings = new Findings('names', 'site.test');
    findings[state]('dns', '', undefined);
    return findings.list;
  };

  test.each([
    { when: 'there are only warnings', findings: [...name('warning'), ...host('a', 'ok')], expected: 'done' },
    { when: 'a name failed', findings: [...name('failed'), ...host('a', 'ok')], expected: 'failed' },
    {
      when: 'one host of two failed',
      findings: [...host('a', 'ok'), ...host('b', 'failed')],
      expected: 'partly',
    },
    {
      when: 'one host failed in one thing only',
      findings: [...host('a', 'ok'), ...host('a', 'failed')],
      expected: 'failed',
    },
    {
      when: 'every host failed',
      findings: [...host('a', 'failed'), ...host('b', 'failed')],
      expected: 'failed',
    },
  ])('is "$expected" when $when', ({ findings, expected }) => {
    expect(checkOutcome(findings)).toBe(expected);
  });
});
