import type { AccountChange, AccountView } from '../../../src/domain/account.ts';
import type { CheckReport } from '../../../src/domain/finding.ts';
import type { RenewalCalendar } from '../../../src/domain/renewal-calendar.ts';
import type { Status, Summary } from '../../../src/domain/status.ts';
import type { KacmeService } from '../../../src/ports/service.ts';

export const NOW = new Date('2026-03-01T12:00:00Z');

/** One valid certificate on two hosts, one of which cannot be reached. */
export const STATUS: Status = {
  at: NOW.toISOString(),
  role: 'leading',
  certificates: [
    {
      name: 'external',
      identifiers: ['cloud.example.org'],
      key: 'ecdsa-p256',
      state: 'valid',
      generation: 3,
      pendingRevocations: [],
      issuer: 'letsencrypt',
      fingerprint256: 'ab'.repeat(32),
      notAfter: '2026-05-01T13:00:00.000Z',
      renewAt: '2026-04-01T07:13:21.000Z',
      renewAtBasis: 'share of the lifetime',
      explanationURL: undefined,
      next: 'waits until 2026-04-01T07:13:21.000Z: not due',
      lastSuccess: '2026-02-01T07:13:21.000Z',
      lastFailure: undefined,
    },
  ],
  discoveries: [],
  hosts: [
    {
      pool: 'loadbalancers',
      host: '10.0.0.11',
      reachable: true,
      haproxyVersion: '2.6.12',
      observedAt: NOW.toISOString(),
      places: [
        {
          certificate: 'external',
          path: '/etc/haproxy/certificates/haproxy.pem',
          generation: 2,
          state: 'in sync',
          reason: 'file and memory hold the bundle',
          failure: undefined,
        },
      ],
    },
    {
      pool: 'loadbalancers',
      host: '10.0.0.12',
      reachable: false,
      haproxyVersion: undefined,
      observedAt: undefined,
      places: [
        {
          certificate: 'external',
          path: '/etc/haproxy/certificates/haproxy.pem',
          generation: 2,
          state: 'unreachable',
          reason: 'connect: connection refused',
          failure: {
            code: 'ERR_HOST_UNREACHABLE',
            message: 'loadbalancers/10.0.0.12 (10.0.0.12:2985): connect: connection refused',
            retry: 'later',
            remedy: 'start sshd there',
          },
        },
      ],
    },
  ],
};

export const SUMMARY: Summary = {
  outcome: 'partly',
  certificates: [{ certificate: 'external', action: 'issued', reason: 'renewal due', failure: undefined }],
  places: [
    {
      pool: 'loadbalancers',
      host: '10.0.0.11',
      certificate: 'external',
      path: '/etc/haproxy/certificates/haproxy.pem',
      action: 'swapped',
      inSync: true,
      reason: 'file holds another certificate',
      failure: undefined,
    },
    {
      pool: 'loadbalancers',
      host: '10.0.0.12',
      certificate: 'external',
      path: '/etc/haproxy/certificates/haproxy.pem',
      action: 'failed',
      inSync: false,
      reason: 'connect: connection refused',
      failure: {
        code: 'ERR_HOST_UNREACHABLE',
        message: 'loadbalancers/10.0.0.12 (10.0.0.12:2985): connect: connection refused',
        retry: 'later',
        remedy: 'start sshd there',
      },
    },
  ],
};

/** One renewal ahead, at a CA with one limit. */
export const CALENDAR: RenewalCalendar = {
  at: NOW.toISOString(),
  days: 90,
  issuers: [
    {
      issuer: 'letsencrypt',
      directory: 'https://ca.test/directory',
      orders: [
        {
          certificate: 'external',
          at: '2026-04-01T07:13:21.000Z',
          kind: 'renewal',
          reason: 'renewal due',
        },
      ],
      limits: [
        {
          limit: 'certificatesPerSet',
          capacity: 5,
          now: undefined,
          peak: { subject: 'cloud.example.org', used: 1, at: '2026-04-01T07:13:21.000Z' },
        },
      ],
      waits: [],
      expiring: [],
      unissued: [],
    },
  ],
  rehearsals: [],
  unreadable: [],
};

/** A valid account, whose CA has new terms and keeps no contacts. */
export const ACCOUNT: AccountView = {
  issuer: 'letsencrypt',
  directory: 'https://ca.test/directory',
  state: 'valid',
  url: 'https://ca.test/acct/1',
  contact: undefined,
  configuredContact: ['mailto:ops@example.org'],
  key: { type: 'ecdsa-p256', thumbprint: 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA' },
  orders: undefined,
  termsOfService: 'https://ca.test/terms-2.pdf',
  externalAccountRequired: false,
  externalAccountConfigured: false,
  notes: [],
  failure: undefined,
};

const ACCOUNT_CHANGE: AccountChange = { done: 'account registered', account: ACCOUNT };

/** A host that cannot be logged in to, and one that can. */
export const CHECK: CheckReport = {
  at: NOW.toISOString(),
  outcome: 'partly',
  findings: [
    {
      area: 'names',
      check: 'dns',
      subject: 'cloud.example.org',
      state: 'ok',
      reason: '192.0.2.1',
      code: undefined,
      remedy: undefined,
    },
    {
      area: 'hosts',
      check: 'login',
      subject: 'loadbalancers/10.0.0.12',
      state: 'failed',
      reason: 'connect: connection refused',
      code: 'ERR_HOST_UNREACHABLE',
      remedy: 'start sshd there',
    },
    {
      area: 'hosts',
      check: 'crt',
      subject: 'loadbalancers/10.0.0.11',
      state: 'warning',
      reason: 'HAProxy has no certificate loaded',
      code: undefined,
      remedy: 'name it in a crt argument',
    },
  ],
};

/** A service in memory: answers with the constants above unless told otherwise. */
export function fakeService(overrides: Partial<KacmeService> = {}): KacmeService {
  return {
    status: async () => STATUS,
    check: async () => CHECK,
    calendar: async () => CALENDAR,
    accounts: async () => [ACCOUNT],
    changeAccount: async () => ACCOUNT_CHANGE,
    revoke: async () => SUMMARY,
    bootstrap: async () => SUMMARY,
    renew: async () => SUMMARY,
    rollback: async () => SUMMARY,
    reload: async () => ({ outcome: 'done', hosts: [] }),
    adopt: async () => ({ ...SUMMARY, accounts: [], problems: [] }),
    distribute: async () => SUMMARY,
    reloadConfig: async () => undefined,
    ...overrides,
  };
}
