import { describe, expect, test } from 'vitest';
import { addressesOf, caaAnswerOf, type DnsAnswer } from '../../../src/domain/dns.ts';

const resolver = '10.0.0.2:53';
const found = (...records: readonly string[]): DnsAnswer<string> => ({ state: 'found', records, resolver });
const none: DnsAnswer<string> = { state: 'no records', resolver };
const noName: DnsAnswer<string> = { state: 'no such name', resolver };
const servfail: DnsAnswer<string> = { state: 'server failure', resolver, detail: 'SERVFAIL' };
const silent: DnsAnswer<string> = { state: 'no answer', resolver, detail: 'connection refused' };

describe('the addresses of a name', () => {
  test('are those of both families, IPv6 first', () => {
    expect(addressesOf('site.test', { ipv4: found('192.0.2.1'), ipv6: found('2001:db8::1') })).toEqual({
      addresses: ['2001:db8::1', '192.0.2.1'],
      doubts: [],
    });
  });

  test.each([
    { ipv4: found('192.0.2.1'), ipv6: none, addresses: ['192.0.2.1'] },
    { ipv4: none, ipv6: found('2001:db8::1'), addresses: ['2001:db8::1'] },
  ])('may be of one family: $addresses', ({ ipv4, ipv6, addresses }) => {
    expect(addressesOf('site.test', { ipv4, ipv6 })).toEqual({ addresses, doubts: [] });
  });

  test('are in doubt when one family could not be learned', () => {
    expect(addressesOf('site.test', { ipv4: found('192.0.2.1'), ipv6: servfail })).toEqual({
      addresses: ['192.0.2.1'],
      doubts: ['look up the AAAA records of site.test at 10.0.0.2:53: SERVFAIL'],
    });
  });

  test.each([
    {
      when: 'the name does not exist',
      ipv4: noName,
      ipv6: noName,
      code: 'ERR_DNS_NO_SUCH_NAME',
      says: /10\.0\.0\.2:53 answered NXDOMAIN/,
      remedy: /create A or AAAA records for site\.test/,
    },
    {
      when: 'there are no records',
      ipv4: none,
      ipv6: none,
      code: 'ERR_DNS_NO_ADDRESS',
      says: /neither an A nor an AAAA record/,
      remedy: /add A or AAAA records/,
    },
    {
      when: 'a family has no records and the other cannot be learned',
      ipv4: servfail,
      ipv6: none,
      code: 'ERR_DNS_SERVER_FAILURE',
      says: /A records of site\.test at 10\.0\.0\.2:53: SERVFAIL/,
      remedy: /DNSSEC/,
    },
    {
      when: 'nobody answers',
      ipv4: silent,
      ipv6: silent,
      code: 'ERR_DNS_NO_ANSWER',
      says: /connection refused/,
      remedy: /challenge\.resolvers/,
    },
  ])('are missing when $when', ({ ipv4, ipv6, code, says, remedy }) => {
    expect(() => addressesOf('site.test', { ipv4, ipv6 })).toThrowError(
      expect.objectContaining({
        code,
        retry: 'later',
        message: expect.stringMatching(says),
        remedy: expect.stringMatching(remedy),
      }),
    );
  });
});

test.each([
  { answer: { state: 'no such name', resolver } as const, expected: [] },
  { answer: { state: 'no records', resolver } as const, expected: [] },
  {
    answer: { state: 'server failure', resolver, detail: 'SERVFAIL' } as const,
    expected: { failure: '10.0.0.2:53: SERVFAIL' },
  },
])('CAA records after "$answer.state" are $expected', ({ answer, expected }) => {
  expect(caaAnswerOf(answer)).toEqual(expected);
});
