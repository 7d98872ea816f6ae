import { describe, expect, test } from 'vitest';
import {
  AcmeRateLimitedError,
  describeProblem,
  type ProblemContext,
  problemError,
  readProblem,
} from '../../../src/acme/problem.ts';

const now = new Date('2026-03-01T12:00:00Z');
const urn = (type: string) => `urn:ietf:params:acme:error:${type}`;
const context: ProblemContext = {
  request: 'newOrder https://ca.test/order',
  url: 'https://ca.test/order',
  status: 403,
  notBefore: undefined,
};

const errorFor = (document: object, overrides: Partial<ProblemContext> = {}) => {
  const problem = readProblem(document);
  if (problem === undefined) throw new Error('no problem document');
  return problemError(problem, { ...context, ...overrides }, now);
};

describe('whether a refusal may pass by itself', () => {
  test.each([
    'rejectedIdentifier',
    'caa',
    'unauthorized',
    'externalAccountRequired',
    'userActionRequired',
    'unsupportedIdentifier',
    'badCSR',
    'invalidContact',
  ])('%s never does, and says what to do', (type) => {
    const error = errorFor({ type: urn(type), detail: 'no' });
    expect(error).toMatchObject({ retry: 'never', type });
    expect(error.remedy).toMatch(/\w+/);
  });

  test.each([
    'serverInternal',
    'connection',
    'dns',
    'incorrectResponse',
    'orderNotReady',
    'accountDoesNotExist',
    'newOne',
  ])('%s may', (type) => {
    expect(errorFor({ type: urn(type), detail: 'no' })).toMatchObject({
      retry: 'later',
      code: 'ERR_ACME_PROBLEM',
    });
  });

  test('badNonce asks for the same request again at once', () => {
    expect(errorFor({ type: urn('badNonce'), detail: 'stale' }).retry).toBe('now');
  });
});

describe('rate limits', () => {
  test('carry the moment that Retry-After gives', () => {
    const notBefore = new Date('2026-03-01T15:00:00Z');
    const error = errorFor({ type: urn('rateLimited'), detail: 'too many certificates' }, { notBefore });
    expect(error).toBeInstanceOf(AcmeRateLimitedError);
    expect(error).toMatchObject({ code: 'ERR_ACME_RATE_LIMITED', retry: 'later', notBefore });
    expect(error.message).toContain('too many certificates');
    expect(error.message).toContain('tries again after 2026-03-01T15:00:00.000Z');
  });

  test('without Retry-After last an hour', () => {
    const error = errorFor({ type: urn('rateLimited'), detail: 'too many' });
    expect(error.notBefore).toEqual(new Date('2026-03-01T13:00:00Z'));
  });

  test('are known by HTTP 429 under another type too', () => {
    expect(errorFor({ title: 'slow down' }, { status: 429 }).code).toBe('ERR_ACME_RATE_LIMITED');
  });
});

test('the message says what was asked, the status, the words of the CA and those about each identifier', () => {
  const error = errorFor({
    type: urn('rejectedIdentifier'),
    detail: 'Some names are not allowed',
    subproblems: [
      {
        type: urn('rejectedIdentifier'),
        detail: 'on the blocklist',
        identifier: { type: 'dns', value: 'bad.test' },
      },
    ],
  });
  expect(error.message).toBe(
    'newOrder https://ca.test/order refused by the CA with HTTP 403: Some names are not allowed ' +
      '(rejectedIdentifier); bad.test: on the blocklist (rejectedIdentifier)',
  );
  expect(error.subproblems).toEqual([
    { type: 'rejectedIdentifier', detail: 'on the blocklist', identifier: 'bad.test' },
  ]);
});

test('changed terms are an error of their own that says where to agree', () => {
  const error = errorFor({
    type: urn('userActionRequired'),
    detail: 'Terms of service have changed',
    instance: 'https://ca.test/terms/8',
  });
  expect(error).toMatchObject({ code: 'ERR_ACME_TERMS', retry: 'never' });
  expect(error.remedy).toContain('https://ca.test/terms/8');
});

test('a type that is not RFC 8555 keeps its whole URI', () => {
  expect(
    describeProblem({ type: 'https://ca.test/odd', detail: 'odd', instance: undefined, subproblems: [] }),
  ).toBe('odd (https://ca.test/odd)');
});

test.each([undefined, null, 'text', 7, [], {}, { type: 7 }, { status: 500 }])(
  '%j is no problem document',
  (document) => {
    expect(readProblem(document)).toBeUndefined();
  },
);
