import { describe, expect, test } from 'vitest';
import {
  type CaaAnswer,
  type CaaIssuer,
  type CaaRecord,
  caaNames,
  judgeCaa,
} from '../../../src/domain/caa.ts';
import { parseIssueValue } from '../../../src/domain/caa-property.ts';

const issue = (value: string): CaaRecord => ({ flags: 0, tag: 'issue', value });
const issuewild = (value: string): CaaRecord => ({ flags: 0, tag: 'issuewild', value });
const account = 'https://ca.example/acct/1';
const issuer: CaaIssuer = {
  identities: ['ca.example', 'ca.example.net'],
  accountUri: account,
  validationMethod: 'http-01',
};
const judge = (
  records: readonly CaaRecord[],
  { identifier = 'www.example.org', ...options }: Partial<CaaIssuer> & { identifier?: string } = {},
) => judgeCaa(identifier, new Map([[caaNames(identifier)[0] ?? '', records]]), { ...issuer, ...options });

describe('caaNames', () => {
  test.each([
    ['a.b.example.org', ['a.b.example.org', 'b.example.org', 'example.org', 'org']],
    ['*.Example.org.', ['example.org', 'org']],
    ['localhost', ['localhost']],
    ['192.0.2.1', []],
    ['2001:db8::1', []],
  ])('of %s are %j', (identifier, expected) => {
    expect(caaNames(identifier)).toEqual(expected);
  });
});

describe('judgeCaa climbs the tree', () => {
  const tree = (answers: Record<string, CaaAnswer>) =>
    judgeCaa('www.example.org', new Map(Object.entries(answers)), issuer);

  test('to the first name with records, whatever stands above it', () => {
    const answers = { 'www.example.org': [], 'example.org': [issue('ca.example')], org: [issue(';')] };
    expect(tree(answers)).toMatchObject({
      verdict: 'allowed',
      name: 'example.org',
      record: issue('ca.example'),
    });
  });

  test('no further than a name with records that restrict nothing', () => {
    const iodef = { flags: 0, tag: 'iodef', value: 'mailto:security@example.org' };
    expect(tree({ 'www.example.org': [iodef], 'example.org': [issue(';')] })).toMatchObject({
      verdict: 'allowed',
      name: 'www.example.org',
    });
  });

  test('to the top and allows when there are none', () => {
    expect(tree({ 'www.example.org': [], 'example.org': [], org: [] })).toEqual({
      verdict: 'allowed',
      reason: 'there are no CAA records',
      name: undefined,
      record: undefined,
    });
  });

  test('not past a name whose records are not known', () => {
    const answers = { 'www.example.org': [], 'example.org': { failure: 'SERVFAIL' }, org: [] };
    expect(tree(answers)).toMatchObject({ verdict: 'undetermined', name: 'example.org' });
    expect(tree(answers).reason).toContain('SERVFAIL');
    expect(tree({}).verdict).toBe('undetermined');
  });

  test('not at all for an IP address', () => {
    expect(judgeCaa('192.0.2.1', new Map(), issuer).verdict).toBe('allowed');
  });
});

describe('judgeCaa', () => {
  test.each([
    { when: 'the CA is named', records: [issue('ca.example')], expected: 'allowed' },
    { when: 'the CA is named in other case', records: [issue('CA.Example')], expected: 'allowed' },
    {
      when: 'the CA is named by its second identity',
      records: [issue('ca.example.net')],
      expected: 'allowed',
    },
    {
      when: 'the tag is in other case',
      records: [{ ...issue('other.example'), tag: 'ISSUE' }],
      expected: 'denied',
    },
    { when: 'another CA is named', records: [issue('other.example')], expected: 'denied' },
    { when: 'a name below the CA is named', records: [issue('x.ca.example')], expected: 'denied' },
    {
      when: 'one of two records names it',
      records: [issue('other.example'), issue('ca.example')],
      expected: 'allowed',
    },
    { when: 'nobody is permitted', records: [issue(';')], expected: 'denied' },
    { when: 'nobody is permitted, empty', records: [issue('')], expected: 'denied' },
    {
      when: 'nobody and the CA are permitted',
      records: [issue(';'), issue('ca.example')],
      expected: 'allowed',
    },
    { when: 'the value is malformed', records: [issue('%%%%%')], expected: 'denied' },
    { when: 'a parameter is malformed', records: [issue('ca.example; account')], expected: 'denied' },
    {
      when: 'parameters of others are there',
      records: [issue('ca.example; policy=ev')],
      expected: 'allowed',
    },
    { when: 'only issuewild is there', records: [issuewild(';')], expected: 'allowed' },
    {
      when: 'a critical tag is unknown',
      records: [issue('ca.example'), { flags: 128, tag: 'tbs', value: 'x' }],
      expected: 'denied',
    },
    {
      when: 'a tag is unknown, not critical',
      records: [{ flags: 0, tag: 'tbs', value: 'x' }],
      expected: 'allowed',
    },
    {
      when: 'a flag of no meaning is set',
      records: [{ flags: 1, tag: 'tbs', value: 'x' }],
      expected: 'allowed',
    },
    {
      when: 'a known tag is critical',
      records: [{ ...issue('ca.example'), flags: 128 }],
      expected: 'allowed',
    },
    {
      when: 'critical and for mail',
      records: [{ flags: 128, tag: 'issuemail', value: ';' }],
      expected: 'allowed',
    },
  ])('$expected when $when', ({ records, expected }) => {
    expect(judge(records).verdict).toBe(expected);
  });

  test.each([
    {
      when: 'issuewild permits and issue does not',
      records: [issue(';'), issuewild('ca.example')],
      expected: 'allowed',
    },
    {
      when: 'issuewild forbids and issue permits',
      records: [issue('ca.example'), issuewild(';')],
      expected: 'denied',
    },
    { when: 'there is only issue', records: [issue('ca.example')], expected: 'allowed' },
    { when: 'there is only issue, for another', records: [issue('other.example')], expected: 'denied' },
  ])('$expected for a wildcard when $when', ({ records, expected }) => {
    expect(judge(records, { identifier: '*.example.org' }).verdict).toBe(expected);
  });

  test.each([
    { value: `ca.example; accounturi=${account}`, expected: 'allowed' },
    { value: `ca.example;ACCOUNTURI = ${account}`, expected: 'allowed' },
    { value: `ca.example; accounturi=${account}0`, expected: 'denied' },
    { value: `ca.example; accounturi=${account}; accounturi=${account}`, expected: 'denied' },
    { value: 'ca.example; validationmethods=http-01', expected: 'allowed' },
    { value: 'ca.example; validationmethods=dns-01,http-01', expected: 'allowed' },
    { value: 'ca.example; validationmethods=dns-01', expected: 'denied' },
    { value: 'ca.example; validationmethods=', expected: 'denied' },
    { value: 'ca.example; validationmethods=http-01; validationmethods=http-01', expected: 'denied' },
    { value: `ca.example; validationmethods=http-01; accounturi=${account}`, expected: 'allowed' },
    { value: `ca.example; validationmethods=dns-01; accounturi=${account}`, expected: 'denied' },
  ])('$expected by "$value" (RFC 8657)', ({ value, expected }) => {
    expect(judge([issue(value)]).verdict).toBe(expected);
  });

  test('a record for one account may permit who has none yet', () => {
    const verdict = judge([issue(`ca.example; accounturi=${account}`)], { accountUri: undefined });
    expect(verdict).toMatchObject({ verdict: 'undetermined' });
    expect(verdict.reason).toContain('none is registered yet');
  });

  test('cannot tell for a CA that does not name itself', () => {
    expect(judge([issue('ca.example')], { identities: [] }).verdict).toBe('undetermined');
    expect(judge([], { identities: [] }).verdict).toBe('undetermined');
  });

  test('says which record of which name decides, and why', () => {
    expect(judge([issue('other.example')])).toEqual({
      verdict: 'denied',
      reason:
        'no CAA record of www.example.org permits it: CAA 0 issue "other.example" permits another CA than ca.example, ca.example.net',
      name: 'www.example.org',
      record: issue('other.example'),
    });
    expect(judge([issue('a.example'), issue('b.example')]).record).toBeUndefined();
  });
});

describe('parseIssueValue', () => {
  test.each([
    ['ca.example', { issuerDomain: 'ca.example', parameters: [] }],
    [' \tCA.example ', { issuerDomain: 'ca.example', parameters: [] }],
    [';', { issuerDomain: '', parameters: [] }],
    ['', { issuerDomain: '', parameters: [] }],
    ['ca.example;', { issuerDomain: 'ca.example', parameters: [] }],
    ['ca.example; a=b;', { issuerDomain: 'ca.example', parameters: [{ tag: 'a', value: 'b' }] }],
    [
      'ca.example; Account=230123 ; x-1=a=b',
      {
        issuerDomain: 'ca.example',
        parameters: [
          { tag: 'account', value: '230123' },
          { tag: 'x-1', value: 'a=b' },
        ],
      },
    ],
    ['; account=1', { issuerDomain: '', parameters: [{ tag: 'account', value: '1' }] }],
    ['ca example', undefined],
    ['-ca.example', undefined],
    ['ca..example', undefined],
    ['ca.example.', undefined],
    ['ca.example; a', undefined],
    ['ca.example; =b', undefined],
    ['ca.example; a-=b', undefined],
    ['ca.example; a=b c', undefined],
    ['ca.example; ; a=b', undefined],
    ['ca.example; a=\u00e9', undefined],
  ])('of "%s" is %j', (text, expected) => {
    expect(parseIssueValue(text)).toEqual(expected);
  });

  test('takes no longer for a long value that fits nothing', () => {
    expect(parseIssueValue(`${'a-'.repeat(20_000)}!`)).toBeUndefined();
  });
});
