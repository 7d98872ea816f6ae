import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { defineRecord } from '../../../src/app/record-kind.ts';
import {
  accountRecord,
  backoffRecord,
  bundleRecord,
  certificateRecord,
  challengeRecord,
  ledgerRecord,
  listRecords,
  loadRecord,
  orderRecord,
  rehearsalRecord,
  renewalInfoRecord,
  revocationRecord,
  rolloutRecord,
  rosterRecord,
} from '../../../src/app/records.ts';
import { certIdOf } from '../../../src/domain/cert-id.ts';
import { type ErrorReport, KacmeError, reportError } from '../../../src/domain/errors.ts';
import type { Entry, StateStore } from '../../../src/ports/state-store.ts';
import { testCa } from '../../support/pem.ts';

const { signal } = new AbortController();
const at = '2026-03-01T12:00:00.000Z';
const failure: ErrorReport = reportError(
  new KacmeError('ERR_ACME_TIMEOUT', 'no answer', { retry: 'later', remedy: 'look at the firewall' }),
);

const account = {
  keyPem: 'PEM',
  url: undefined,
  directory: 'https://ca.test/dir',
  createdAt: at,
  nextKeyPem: 'PEM',
  closed: { since: at, confirmed: true },
};
const examples = [
  {
    kind: accountRecord,
    key: accountRecord.key('ca', account.directory),
    at: 'account/ca/3f0f069f145c3cbd',
    value: account,
  },
  {
    kind: certificateRecord,
    key: certificateRecord.key('web'),
    at: 'certificate/web',
    value: {
      generation: 2,
      active: 'f2',
      lastSuccess: at,
      history: [
        {
          bundle: 'f1',
          generation: 1,
          fingerprint256: 'f1',
          fingerprint1: 'e1',
          state: 'superseded',
          origin: 'self-signed',
          notAfter: at,
        },
      ],
    },
  },
  {
    kind: bundleRecord,
    key: bundleRecord.key('web', 'f2'),
    at: 'bundle/web/f2',
    value: {
      certificate: 'web',
      id: 'f2',
      origin: 'acme',
      issuer: 'ca',
      chainPem: 'PEM',
      keyPem: 'PEM',
      certID: 'aki.serial',
      identifiers: ['web.test'],
      notBefore: at,
      notAfter: at,
      renewAt: at,
      issuedAt: at,
    },
  },
  {
    kind: revocationRecord,
    key: revocationRecord.key('web', 'f1'),
    at: 'revocation/web/f1',
    value: {
      reason: 'keyCompromise',
      signedBy: 'certificate-key',
      requestedAt: at,
      revokedAt: undefined,
      publicKey: 'a1',
      failures: 1,
      lastFailure: failure,
      notBefore: at,
    },
  },
  {
    kind: orderRecord,
    key: orderRecord.key('web', 'ca'),
    at: 'order/web/ca',
    value: {
      identifiers: ['web.test'],
      keyPem: 'PEM',
      url: 'https://ca.test/o/1',
      state: 'finalizing',
      kind: 'renewal',
      challengeTokens: ['T-_0'],
      createdAt: at,
    },
  },
  {
    kind: challengeRecord,
    key: challengeRecord.key('T-_0'),
    at: /^challenge\/[0-9a-f]{64}$/,
    value: { identifier: 'web.test', keyAuthorization: 'T-_0.x', createdAt: at },
  },
  {
    kind: backoffRecord,
    key: backoffRecord.key('web', 'ca'),
    at: 'backoff/web/ca',
    value: {
      failures: 3,
      lastFailure: failure,
      at,
      notBefore: at,
      verdict: { permanent: false, fault: 'issuer' },
      request: 'f00d',
    },
  },
  {
    kind: renewalInfoRecord,
    key: renewalInfoRecord.key('web'),
    at: 'renewal-info/web',
    value: {
      bundle: 'f2',
      suggestion: {
        window: { start: at, end: at },
        renewAt: at,
        checkedAt: at,
        explanationURL: 'https://ca.test/why',
      },
      nextCheckAt: at,
      failures: 0,
    },
  },
  {
    kind: rolloutRecord,
    key: rolloutRecord.key('lb', 'web'),
    at: 'rollout/lb/web',
    value: {
      generation: 2,
      provenOn: undefined,
      halted: {
        host: 'one',
        failure: { code: 'ERR_HAPROXY_REFUSED', message: 'refused', retry: 'later' },
        at,
        until: at,
      },
      halts: 1,
      unverifiedOn: ['two'],
    },
  },
  {
    kind: rehearsalRecord,
    key: rehearsalRecord.key('web', 'ca'),
    at: 'rehearsal/web/ca',
    value: { staging: 'staging', identifiers: ['web.test'], at },
  },
  {
    kind: rosterRecord,
    key: rosterRecord.key('lb'),
    at: 'roster/lb',
    value: {
      source: 'SRV records of _ssh._tcp.test',
      hosts: [
        { name: 'lb1.test', address: '10.0.0.1', port: 22, missingSince: undefined },
        { name: 'lb2.test', address: '10.0.0.2', port: 2985, missingSince: new Date(at) },
      ],
    },
  },
  {
    kind: ledgerRecord,
    key: ledgerRecord.key(account.directory),
    at: 'ledger/3f0f069f145c3cbd',
    value: {
      directory: account.directory,
      buckets: {
        'ordersPerAccount/ca': {
          fullAt: new Date(at),
          reserved: { count: 2, until: new Date(at) },
          notBefore: undefined,
        },
        'server/every request': { fullAt: new Date(0), reserved: undefined, notBefore: new Date(at) },
      },
    },
  },
] as const;

describe('a record', () => {
  test.each(examples)('of $kind.name lies at its key and comes back as it was', (example) => {
    const kind = example.kind as { serialize(value: unknown): string; parse(entry: Entry): unknown };
    const entry = { key: example.key, revision: 5, value: kind.serialize(example.value) };
    expect(kind.parse(entry)).toEqual({ revision: 5, value: example.value });
    if (typeof example.at === 'string') expect(example.key).toBe(example.at);
    else expect(example.key).toMatch(example.at);
  });

  test('says which fields are wrong, never what is in them', () => {
    const value = JSON.stringify({ schema: 1, data: { ...account, keyPem: 42, createdAt: 'SECRET' } });
    expect(() => accountRecord.parse({ key: 'account/ca', revision: 1, value })).toThrowError(
      expect.objectContaining({
        code: 'ERR_STORE_CORRUPT',
        message: expect.stringMatching(/"account\/ca".*keyPem.*createdAt(?!.*SECRET)/),
      }),
    );
  });

  test.each(['', 'SECRET', '[]', '{"schema":0,"data":{}}', '{"data":{}}'])(
    'of text %j is damaged',
    (value) => {
      expect(() => accountRecord.parse({ key: 'account/ca', revision: 1, value })).toThrowError(
        expect.objectContaining({
          code: 'ERR_STORE_CORRUPT',
          message: expect.not.stringContaining('SECRET'),
        }),
      );
    },
  );

  test('has one key per challenge token, whatever its case and length', () => {
    const keys = ['abc', 'ABC', 'x'.repeat(4096), '../..'].map((token) => challengeRecord.key(token));
    expect(new Set(keys).size).toBe(4);
    for (const key of keys) expect(key).toMatch(/^challenge\/[0-9a-f]{64}$/);
  });
});

describe('an older or newer record', () => {
  test.each([
    { was: undefined, halts: 0 },
    {
      was: {
        host: 'one',
        failure: { code: 'ERR_HAPROXY_REFUSED', message: 'refused', retry: 'later' },
        at,
        until: at,
      },
      halts: 2,
    },
  ])('of a rollout keeps how often it was halted: $halts', ({ was, halts }) => {
    const data = { generation: 2, provenOn: undefined, halted: was && { ...was, failures: halts } };
    const value = JSON.stringify({ schema: 1, data });
    expect(rolloutRecord.parse({ key: 'rollout/lb/web', revision: 1, value }).value).toEqual({
      generation: 2,
      provenOn: undefined,
      halted: was,
      halts,
      unverifiedOn: [],
    });
  });

  const Third = z.object({ names: z.array(z.string()), note: z.string() });
  const First = z.object({ name: z.string() });
  const kind = defineRecord<[string], z.output<typeof Third>>({
    name: 'thing',
    data: Third,
    migrations: [
      (data) => ({ names: [First.parse(data).name] }),
      (data) => ({ ...z.object({ names: z.array(z.string()) }).parse(data), note: 'migrated' }),
    ],
  });
  const stored = (schema: number, data: unknown): Entry => ({
    key: 'thing/a',
    revision: 1,
    value: JSON.stringify({ schema, data }),
  });

  test.each([
    { schema: 1, data: { name: 'a' }, expected: { names: ['a'], note: 'migrated' } },
    { schema: 2, data: { names: ['a'] }, expected: { names: ['a'], note: 'migrated' } },
    { schema: 3, data: { names: ['a'], note: 'own' }, expected: { names: ['a'], note: 'own' } },
  ])('of schema $schema is brought to the present one when it is read', ({ schema, data, expected }) => {
    expect(kind.parse(stored(schema, data)).value).toEqual(expected);
  });

  test('is written with the present schema', () => {
    expect(JSON.parse(kind.serialize({ names: [], note: '' }))).toMatchObject({ schema: 3 });
  });

  test('of an order from before the ledger counts as new', () => {
    const { kind: _, ...data } = { ...examples[4].value };
    const value = JSON.stringify({ schema: 1, data });
    expect(orderRecord.parse({ key: 'order/web/ca', revision: 1, value }).value.kind).toBe('new');
  });

  test.each([
    { retry: 'later', permanent: false },
    { retry: 'never', permanent: true },
  ])('of a back-off is judged by what was kept of its failure ($retry)', ({ retry, permanent }) => {
    const data = { failures: 3, lastFailure: { ...failure, retry }, at, notBefore: at };
    const value = JSON.stringify({ schema: 1, data });
    const parsed = backoffRecord.parse({ key: 'backoff/web/ca', revision: 1, value }).value;
    expect(parsed).toEqual({ ...data, verdict: { permanent, fault: 'issuer' }, request: undefined });
  });

  test('of a schema of the future is refused by name', () => {
    expect(() => kind.parse(stored(4, {}))).toThrowError(
      expect.objectContaining({
        code: 'ERR_STORE_SCHEMA',
        message: expect.stringContaining('"thing/a"'),
        remedy: expect.stringMatching(/upgrade/),
      }),
    );
  });

  test('that its migration cannot read is damaged', () => {
    expect(() => kind.parse(stored(1, { title: 'a' }))).toThrowError(
      expect.objectContaining({ code: 'ERR_STORE_CORRUPT', message: expect.stringContaining('"thing/a"') }),
    );
  });
});

describe('a bundle that was stored without its certID', () => {
  const leaf = testCa().issue(['web.test']);
  const { certID: _, ...first } = examples[2].value;
  const read = (more: object) =>
    bundleRecord.parse({
      key: 'bundle/web/f2',
      revision: 1,
      value: JSON.stringify({ schema: 1, data: { ...first, chainPem: leaf.chainPem, ...more } }),
    }).value;

  test('gets that of its leaf', () => {
    expect(read({}).certID).toBe(certIdOf(leaf.certificate.raw));
    expect(read({}).certID).toMatch(/^[\w-]+\.[\w-]+$/);
  });

  test('gets none when no CA has issued it', () => {
    expect(read({ origin: 'self-signed' }).certID).toBeUndefined();
  });
});

describe('reading from a store', () => {
  const entries: readonly Entry[] = [
    { key: accountRecord.key('ca', account.directory), revision: 3, value: accountRecord.serialize(account) },
    {
      key: accountRecord.key('ca2', account.directory),
      revision: 4,
      value: accountRecord.serialize(account),
    },
    { key: 'order/web/ca', revision: 5, value: '{}' },
  ];
  const store: Pick<StateStore, 'get' | 'list'> = {
    get: async (key) => entries.find((entry) => entry.key === key),
    list: async (prefix) => entries.filter((entry) => entry.key.startsWith(prefix)),
  };

  test('loads one with its revision, or undefined', async () => {
    expect(await loadRecord(store, accountRecord, ['ca', account.directory], { signal })).toEqual({
      revision: 3,
      value: account,
    });
    expect(await loadRecord(store, accountRecord, ['nobody', account.directory], { signal })).toBeUndefined();
  });

  test('lists those of its kind with their keys', async () => {
    const listed = await listRecords(store, accountRecord, [], { signal });
    expect(listed.map(({ key, revision }) => [key, revision])).toEqual([
      ['account/ca/3f0f069f145c3cbd', 3],
      ['account/ca2/3f0f069f145c3cbd', 4],
    ]);
    expect(await listRecords(store, orderRecord, ['mail'], { signal })).toEqual([]);
  });
});
