import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../../src/domain/errors.ts';
import { type Fault, isLocal, judgeFailure } from '../../../src/domain/failure.ts';

describe('whose failure it is', () => {
  test.each<{ code: ErrorCode; problems?: readonly string[]; fault: Fault }>([
    { code: 'ERR_CHALLENGE_UNREACHABLE', fault: 'here' },
    { code: 'ERR_DNS_NO_SUCH_NAME', fault: 'here' },
    { code: 'ERR_CAA_DENIED', fault: 'issuer' },
    { code: 'ERR_STORE_UNUSABLE', fault: 'here' },
    { code: 'ERR_ACME_AUTHORIZATION', fault: 'here' },
    { code: 'ERR_ACME_AUTHORIZATION', problems: ['unauthorized'], fault: 'here' },
    { code: 'ERR_ACME_AUTHORIZATION', problems: ['dns', 'connection'], fault: 'here' },
    { code: 'ERR_ACME_AUTHORIZATION', problems: ['caa'], fault: 'issuer' },
    { code: 'ERR_ACME_AUTHORIZATION', problems: ['caa', 'dns'], fault: 'here' },
    { code: 'ERR_ACME_AUTHORIZATION', problems: ['serverInternal'], fault: 'issuer' },
    { code: 'ERR_ACME_PROBLEM', problems: ['unauthorized'], fault: 'issuer' },
    { code: 'ERR_ACME_PROBLEM', problems: ['caa'], fault: 'issuer' },
    { code: 'ERR_ACME_PROBLEM', problems: ['rejectedIdentifier'], fault: 'issuer' },
    { code: 'ERR_ACME_PROBLEM', problems: ['serverInternal'], fault: 'issuer' },
    { code: 'ERR_ACME_PROBLEM', problems: ['accountDoesNotExist'], fault: 'issuer' },
    { code: 'ERR_ACME_PROBLEM', problems: ['dns'], fault: 'here' },
    { code: 'ERR_ACME_PROBLEM', problems: ['malformed'], fault: 'unknown' },
    { code: 'ERR_ACME_PROBLEM', problems: ['malformed', 'caa'], fault: 'issuer' },
    { code: 'ERR_ACME_ORDER', problems: ['caa'], fault: 'issuer' },
    { code: 'ERR_ACME_ORDER', fault: 'unknown' },
    { code: 'ERR_ACME_UNREACHABLE', fault: 'issuer' },
    { code: 'ERR_ACME_TIMEOUT', fault: 'issuer' },
    { code: 'ERR_ACME_RATE_LIMITED', problems: ['rateLimited'], fault: 'issuer' },
    { code: 'ERR_RATE_LIMIT_NEAR', fault: 'issuer' },
    { code: 'ERR_ACME_TERMS', fault: 'issuer' },
    { code: 'ERR_ACME_CHAIN', fault: 'here' },
    { code: 'ERR_ACME_PROFILE', fault: 'issuer' },
    { code: 'ERR_SECRET_UNREADABLE', fault: 'issuer' },
    { code: 'ERR_INTERNAL', fault: 'unknown' },
  ])('$code with $problems: $fault', ({ code, problems = [], fault }) => {
    expect(judgeFailure({ code, retry: 'later', problems })).toEqual({ permanent: false, fault });
  });
});

test.each<{ code: ErrorCode; retry: 'now' | 'later' | 'never'; permanent: boolean }>([
  { code: 'ERR_ACME_PROBLEM', retry: 'never', permanent: true },
  { code: 'ERR_ACME_PROBLEM', retry: 'later', permanent: false },
  { code: 'ERR_ACME_PROBLEM', retry: 'now', permanent: false },
  { code: 'ERR_ACME_TERMS', retry: 'never', permanent: true },
  { code: 'ERR_ACME_AUTHORIZATION', retry: 'never', permanent: true },
  // Whoever repairs a file does not tell kacme, which can look as often as it likes.
  { code: 'ERR_SECRET_UNREADABLE', retry: 'never', permanent: false },
  { code: 'ERR_STORE_CORRUPT', retry: 'never', permanent: false },
])('$code that is tried again $retry is permanent: $permanent', ({ code, retry, permanent }) => {
  expect(judgeFailure({ code, retry, problems: [] })).toMatchObject({ permanent });
});

test.each<{ code: ErrorCode; local: boolean }>([
  { code: 'ERR_DNS_NO_SUCH_NAME', local: true },
  { code: 'ERR_DNS_NO_ADDRESS', local: true },
  { code: 'ERR_DNS_NO_ANSWER', local: true },
  { code: 'ERR_DNS_SERVER_FAILURE', local: true },
  { code: 'ERR_CAA_DENIED', local: true },
  { code: 'ERR_CHALLENGE_UNREACHABLE', local: true },
  { code: 'ERR_SECRET_UNREADABLE', local: true },
  { code: 'ERR_ACME_AUTHORIZATION', local: false },
  { code: 'ERR_ACME_PROBLEM', local: false },
  { code: 'ERR_ACME_UNREACHABLE', local: false },
  { code: 'ERR_ACME_PROFILE', local: false },
  { code: 'ERR_CERTIFICATE_UNUSABLE', local: false },
])('$code was seen before a CA was asked: $local', ({ code, local }) => {
  expect(isLocal(code)).toBe(local);
});
