import { describe, expect, test } from 'vitest';
import {
  AcmeRateLimitedError,
  describeProblem,
  type ProblemContext,
  problemError,
  readProblem,
} from '../../../src/acme/problem.ts';
import { PROBLEM_TYPES } from '../../../src/acme/problem-types.ts';

const now = new Date('2026-03-01T12:00:00Z');
const urn = (type: string) => `urn:ietf:params:acme:error:${type}`;
const context: ProblemContext = {
  request: 'newOrder https://ca.test/order',
  url: 'https://ca.test/order',
  status: 403,
  notBefore: undefined,
  termsOfService: undefined,
};

const errorFor = (document: object, overrides: Partial<ProblemContext> = {}) => {
  const problem = readProblem(document);
  if (problem === undefined) throw new Error('no problem document');
  return problemError(problem, { ...context, ...overrides }, now);
};

describe('each type of RFC 8555 section 6.7, and the two that came later, is explained and has a next step', () => {
  test.each<{ type: string; retry: string; since: RegExp; remedy: RegExp; code?: string }>([
    { type: 'accountDoesNotExist', retry: 'later', since: /know the account/, remedy: /registers .* again/ },
    { type: 'alreadyReplaced', retry: 'later', since: /replaced already/, remedy: /next order/ },
    { type: 'alreadyRevoked', retry: 'never', since: /revoked already/, remedy: /renew the certificate/ },
    { type: 'badCSR', retry: 'never', since: /certificate request/, remedy: /key type.*identifiers/ },
    { type: 'badNonce', retry: 'now', since: /nonce/, remedy: /new nonce/ },
    { type: 'badPublicKey', retry: 'never', since: /public key/, remedy: /key type/ },
    { type: 'badRevocationReason', retry: 'never', since: /reason/, remedy: /another reason/ },
    { type: 'badSignatureAlgorithm', retry: 'never', since: /algorithm/, remedy: /account key of a type/ },
    { type: 'caa', retry: 'never', since: /CAA/, remedy: /CAA records of the domains/ },
    { type: 'compound', retry: 'later', since: /several things/, remedy: /each identifier/ },
    { type: 'connection', retry: 'later', since: /could not connect/, remedy: /port 80/ },
    { type: 'dns', retry: 'later', since: /DNS/, remedy: /name servers/ },
    { type: 'externalAccountRequired', retry: 'never', since: /customers/, remedy: /eab \(keyId/ },
    { type: 'incorrectResponse', retry: 'later', since: /something else/, remedy: /challenge\.listen/ },
    { type: 'invalidContact', retry: 'never', since: /contact/, remedy: /mailto:/ },
    {
      type: 'invalidProfile',
      retry: 'never',
      since: /profile/,
      remedy: /profile of the certificate or/,
      code: 'ERR_ACME_PROFILE',
    },
    { type: 'malformed', retry: 'later', since: /understand/, remedy: /defect of kacme/ },
    { type: 'orderNotReady', retry: 'later', since: /not ready/, remedy: /looks at the order again/ },
    {
      type: 'rateLimited',
      retry: 'later',
      since: /limit/,
      remedy: /^wait/,
      code: 'ERR_ACME_RATE_LIMITED',
    },
    { type: 'rejectedIdentifier', retry: 'never', since: /not issue for an/, remedy: /correct or remove/ },
    { type: 'serverInternal', retry: 'later', since: /failed inside/, remedy: /status page/ },
    { type: 'tls', retry: 'later', since: /TLS/, remedy: /redirected to https/ },
    { type: 'unauthorized', retry: 'never', since: /not allowed/, remedy: /account and eab/ },
    { type: 'unsupportedContact', retry: 'never', since: /contact/, remedy: /mailto:/ },
    { type: 'unsupportedIdentifier', retry: 'never', since: /of that type/, remedy: /issuer or profile/ },
    {
      type: 'userActionRequired',
      retry: 'never',
      since: /terms of service/,
      remedy: /then run kacme renew$/,
      code: 'ERR_ACME_TERMS',
    },
  ])('$type: $retry', ({ type, retry, since, remedy, code = 'ERR_ACME_PROBLEM' }) => {
    const error = errorFor({ type: urn(type), detail: 'because so' });
    expect(error).toMatchObject({ type, retry, code });
    const [what = '', words = ''] = error.message.split(/: (?=because so)/);
    expect(what).toMatch(/^newOrder https:\/\/ca\.test\/order refused by the CA with HTTP 403, since \w/);
    expect(what).toMatch(since);
    expect(words).toContain(`because so (${type})`);
    expect(error.remedy).toMatch(remedy);
  });

  test('no two of them have the same next step', () => {
    const remedies = Object.values(PROBLEM_TYPES).map(({ remedy }) => remedy);
    expect(new Set(remedies)).toHaveProperty('size', remedies.length);
  });
});

test.each(['newOne', 'toString', '__proto__'])(
  'a type that nobody knows, %s, may pass, and is given in the words of the CA',
  (type) => {
    const error = errorFor({ type: urn(type), detail: 'no' });
    expect(error).toMatchObject({ retry: 'later', code: 'ERR_ACME_PROBLEM' });
    expect(error.message).toMatch(/with HTTP 403: no \(/);
    expect(error.remedy).toContain("CA's words");
  },
);

describe('subproblems', () => {
  const sub = (type: string, value: string) => ({
    type: urn(type),
    detail: 'no',
    identifier: { type: 'dns', value },
  });

  test('give each identifier its own next step', () => {
    const error = errorFor({
      type: urn('compound'),
      detail: 'see below',
      subproblems: [sub('caa', 'one.test'), sub('dns', 'two.test'), sub('caa', 'three.test')],
    });
    expect(error.remedy).toMatch(/^one\.test, three\.test: allow this CA .*; two\.test: let the author/);
    expect(error.message).toContain('see below (compound); one.test: no (caa); two.test: no (dns)');
  });

  test.each([
    { types: ['dns', 'connection'], retry: 'later' },
    { types: ['dns', 'rejectedIdentifier'], retry: 'never' },
    { types: ['newOne'], retry: 'later' },
  ])('of $types make it worth a try: $retry', ({ types, retry }) => {
    const subproblems = types.map((type) => sub(type, 'one.test'));
    expect(errorFor({ type: urn('compound'), detail: 'no', subproblems }).retry).toBe(retry);
  });

  test('without identifiers are no list of nobody', () => {
    const subproblems = [{ type: urn('caa'), detail: 'no' }];
    expect(errorFor({ type: urn('compound'), detail: 'no', subproblems }).remedy).toMatch(/^allow this CA/);
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
    'newOrder https://ca.test/order refused by the CA with HTTP 403, since it does not issue for an identifier: ' +
      'Some names are not allowed ' +
      '(rejectedIdentifier); bad.test: on the blocklist (rejectedIdentifier)',
  );
  expect(error.subproblems).toEqual([
    { type: 'rejectedIdentifier', detail: 'on the blocklist', identifier: 'bad.test' },
  ]);
});

test.each([
  {
    terms: 'https://ca.test/terms.pdf',
    instance: 'https://ca.test/agree/8',
    remedy:
      "read the CA's terms of service, https://ca.test/terms.pdf, then agree to what the CA asks for at " +
      'https://ca.test/agree/8, then run kacme renew',
  },
  {
    terms: undefined,
    instance: 'https://ca.test/agree/8',
    remedy: 'agree to what the CA asks for at https://ca.test/agree/8, then run kacme renew',
  },
  {
    terms: 'https://ca.test/terms.pdf',
    instance: undefined,
    remedy:
      "read the CA's terms of service, https://ca.test/terms.pdf, then agree to what the CA asks for, then run kacme renew",
  },
])('changed terms ($terms, $instance) say where to read and to agree', ({ terms, instance, remedy }) => {
  const document = { type: urn('userActionRequired'), detail: 'Terms have changed', instance };
  const error = errorFor(document, { termsOfService: terms });
  expect(error).toMatchObject({ code: 'ERR_ACME_TERMS', retry: 'never', remedy });
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
