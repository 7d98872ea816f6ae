import { describe, expect, test } from 'vitest';
import { parseAuthorization } from '../../../src/acme/authorization.ts';
import { parseAlternates, parseChain } from '../../../src/acme/certificate.ts';
import { parseDirectory } from '../../../src/acme/directory.ts';
import { requireLocation } from '../../../src/acme/document.ts';
import { orderPayload, parseOrder } from '../../../src/acme/order.ts';
import { parseRenewalInfo, renewalInfoUrl } from '../../../src/acme/renewal-info.ts';
import type { AcmeSigner } from '../../../src/acme/signer.ts';
import type { AcmeResponse } from '../../../src/acme/transport.ts';
import { testCa } from '../../support/pem.ts';

const response = (body: unknown, headers: Readonly<Record<string, string>> = {}): AcmeResponse => ({
  request: { resource: 'order', method: 'POST', url: 'https://ca.test/order/1' },
  status: 200,
  body: typeof body === 'string' ? body : JSON.stringify(body),
  notBefore: undefined,
  header: (name) => headers[name],
  headers: (name) => [headers[name] ?? []].flat(),
});

const signer: AcmeSigner = {
  jwk: {},
  sign: () => '',
  externalAccountBinding: () => ({}),
  keyAuthorization: (token) => `${token}.thumbprint`,
};

const order = {
  status: 'pending',
  identifiers: [{ type: 'dns', value: 'one.test' }],
  authorizations: ['https://ca.test/authz/1'],
  finalize: 'https://ca.test/order/1/finalize',
  expires: '2026-03-02T12:00:00Z',
};

test('an order keeps what an issuance needs, with its URL', () => {
  expect(parseOrder('https://ca.test/order/1', response(order))).toEqual({
    url: 'https://ca.test/order/1',
    status: 'pending',
    authorizations: ['https://ca.test/authz/1'],
    finalize: 'https://ca.test/order/1/finalize',
    certificate: undefined,
    expires: new Date('2026-03-02T12:00:00Z'),
    replaces: undefined,
    profile: undefined,
    error: undefined,
    problems: [],
  });
});

test('an invalid order says why in the words of the CA', () => {
  const error = { type: 'urn:ietf:params:acme:error:caa', detail: 'CAA forbids' };
  expect(parseOrder('u', response({ ...order, status: 'invalid', error }))).toMatchObject({
    error: 'CAA forbids (caa)',
    problems: ['caa'],
  });
});

test.each([
  { what: 'HTML', body: '<html>maintenance</html>', says: '"<html>maintenance</html>"' },
  { what: 'nothing', body: '', says: 'an empty answer' },
  { what: 'half a document', body: '{"status": "pend', says: 'no JSON document' },
  { what: 'another document', body: { hello: 1 }, says: 'status: ' },
  { what: 'an unknown status', body: { ...order, status: 'paused' }, says: 'status: ' },
  { what: 'no finalize URL', body: { ...order, finalize: 'soon' }, says: 'finalize: ' },
])('$what in place of an order is named for what it is', ({ body, says }) => {
  expect(() => parseOrder('u', response(body))).toThrow(
    expect.objectContaining({ code: 'ERR_ACME_MALFORMED', message: expect.stringContaining(says) }),
  );
});

test('a creation without Location is malformed, and a relative one is resolved', () => {
  expect(() => requireLocation(response(order))).toThrow('no Location');
  expect(requireLocation(response(order, { location: '/order/9' }))).toBe('https://ca.test/order/9');
});

test('an authorization gives its http-01 challenge with the key authorization', async () => {
  const document = {
    status: 'pending',
    identifier: { type: 'dns', value: 'one.test' },
    challenges: [
      { type: 'dns-01', url: 'https://ca.test/c/1', token: 'abc' },
      { type: 'http-01', url: 'https://ca.test/c/2', token: 'a_b-C9' },
    ],
  };
  expect(parseAuthorization('https://ca.test/authz/1', response(document), signer)).toEqual({
    url: 'https://ca.test/authz/1',
    identifier: 'one.test',
    status: 'pending',
    http01: { url: 'https://ca.test/c/2', token: 'a_b-C9', keyAuthorization: 'a_b-C9.thumbprint' },
    error: undefined,
    problems: [],
  });
});

test('an authorization of an address has it in its shortest form, whatever the CA writes', async () => {
  const identifier = { type: 'ip', value: '2001:DB8:0:0::7' };
  const document = { status: 'pending', identifier, challenges: [] };
  expect((await parseAuthorization('u', response(document), signer)).identifier).toBe('2001:db8::7');
});

test.each(['../../etc/passwd', 'a/b', 'a b', ''])(
  'a token %j that is not base64url is no challenge',
  (token) => {
    const document = {
      status: 'pending',
      identifier: { type: 'dns', value: 'one.test' },
      challenges: [{ type: 'http-01', url: 'https://ca.test/c/2', token }],
    };
    expect(parseAuthorization('u', response(document), signer).http01).toBeUndefined();
  },
);

test('a failed authorization tells what its challenge met', async () => {
  const document = {
    status: 'invalid',
    identifier: { type: 'dns', value: 'one.test' },
    challenges: [
      {
        type: 'http-01',
        url: 'https://ca.test/c/2',
        token: 'abc',
        error: { type: 'urn:ietf:params:acme:error:connection', detail: 'refused' },
      },
    ],
  };
  expect(parseAuthorization('u', response(document), signer)).toMatchObject({
    error: 'refused (connection)',
    problems: ['connection'],
  });
});

test.each([
  { type: 'connection', remedy: /^open port 80 to the internet/ },
  { type: 'dns', remedy: /authoritative name servers answer/ },
  { type: 'unauthorized', remedy: /HAProxy forward \/\.well-known\/acme-challenge/ },
  { type: 'caa', remedy: /CAA/ },
  { type: 'novel', remedy: undefined },
])('a validation that failed for $type has a remedy of its own', async ({ type, remedy }) => {
  const error = { type: `urn:ietf:params:acme:error:${type}`, detail: 'no' };
  const document = {
    status: 'invalid',
    identifier: { type: 'dns', value: 'one.test' },
    challenges: [{ type: 'http-01', url: 'https://ca.test/c/2', token: 'abc', error }],
  };
  const parsed = parseAuthorization('u', response(document), signer).remedy;
  expect(parsed).toEqual(remedy === undefined ? undefined : expect.stringMatching(remedy));
});

test('names are ordered as dns and addresses as ip', () => {
  expect(orderPayload(['one.test', '192.0.2.1', '2001:db8::1'], undefined)).toEqual({
    identifiers: [
      { type: 'dns', value: 'one.test' },
      { type: 'ip', value: '192.0.2.1' },
      { type: 'ip', value: '2001:db8::1' },
    ],
  });
});

test('a profile is part of an order where one is chosen', () => {
  expect(orderPayload(['one.test'], 'shortlived')).toMatchObject({ profile: 'shortlived' });
  expect(orderPayload(['one.test'], undefined)).not.toHaveProperty('profile');
});

describe('the profiles of a directory', () => {
  const urls = {
    newNonce: 'https://ca.test/n',
    newAccount: 'https://ca.test/a',
    newOrder: 'https://ca.test/o',
  };
  test.each([
    { when: 'there is no meta', meta: undefined, profiles: undefined },
    { when: 'meta says nothing of them', meta: { website: 'https://ca.test' }, profiles: undefined },
    {
      when: 'they are described',
      meta: { profiles: { classic: 'The usual', shortlived: 'https://ca.test/short' } },
      profiles: { classic: '"The usual"', shortlived: '"https://ca.test/short"' },
    },
    {
      when: 'their descriptions are odd',
      meta: { profiles: { a: 7, b: 'two\nlines\u001b[2J', c: '' } },
      profiles: { a: 'without a description', b: '"two lines [2J"', c: 'without a description' },
    },
  ])('are $profiles when $when', ({ meta, profiles }) => {
    expect(parseDirectory(response({ ...urls, meta })).profiles).toEqual(profiles);
  });
});

test('a chain is taken leaf first', () => {
  const leaf = testCa().intermediate('Intermediate').issue(['one.test']);
  expect(parseChain(response(leaf.chainPem))).toBe(leaf.chainPem);
});

test('a chain that is turned round or has a gap is refused', () => {
  const leaf = testCa().intermediate('Intermediate').issue(['one.test']);
  const [first = '', second = ''] = leaf.chainPem.split(/(?<=-----END CERTIFICATE-----\n)/);
  for (const [pem, why] of [
    [second + first, 'begins with the certificate of a CA'],
    [first + testCa().certPem, 'certificate 2 did not issue certificate 1'],
  ] as const) {
    expect(() => parseChain(response(pem))).toThrow(
      expect.objectContaining({ code: 'ERR_CERTIFICATE_UNUSABLE', message: expect.stringContaining(why) }),
    );
  }
});

describe('alternates of a chain', () => {
  test.each([
    { when: 'there is no Link', link: [], urls: [] },
    { when: 'only other links are there', link: ['<https://ca.test/dir>;rel="index"'], urls: [] },
    {
      when: 'they stand in headers of their own',
      link: [
        '<https://ca.test/dir>;rel="index"',
        '<https://ca.test/c/1>;rel="alternate"',
        '</c/2>; rel=alternate',
      ],
      urls: ['https://ca.test/c/1', 'https://ca.test/c/2'],
    },
    {
      when: 'they stand in one header',
      link: [
        '<https://ca.test/c/1>; title="a, b"; rel="Alternate", <https://ca.test/c/2>;rel="up alternate"',
      ],
      urls: ['https://ca.test/c/1', 'https://ca.test/c/2'],
    },
    {
      when: 'one is named twice, or is no address of a CA',
      link: [
        '<c/1>;rel="alternate", <c/1>;rel="alternate", <http://ca.test/c/2>;rel="alternate", <>;rel="up"',
      ],
      urls: ['https://ca.test/order/c/1'],
    },
  ])('are $urls when $when', ({ link, urls }) => {
    const answer = { ...response('PEM'), headers: (name: string) => (name === 'link' ? link : []) };
    expect(parseAlternates(answer)).toEqual(urls);
  });

  test('are not followed without end', () => {
    const link = Array.from({ length: 50 }, (_, i) => `<https://ca.test/c/${i}>;rel="alternate"`);
    expect(parseAlternates({ ...response('PEM'), headers: () => link })).toHaveLength(10);
  });
});

test('what is no chain may be one the next time', () => {
  const { certPem } = testCa().issue(['one.test']);
  for (const [body, why] of [
    [certPem.slice(0, 200), 'the PEM chain in it breaks off'],
    [certPem.replace(/\n\w{9}/, '\nAAAAAAAAA'), 'a certificate in it cannot be parsed'],
    ['<html>', 'no PEM chain, but "<html>"'],
    ['', 'no PEM chain, but an empty answer'],
  ] as const) {
    expect(() => parseChain(response(body))).toThrow(
      expect.objectContaining({ code: 'ERR_ACME_MALFORMED', message: expect.stringContaining(why) }),
    );
  }
});

describe('renewal information', () => {
  const suggestedWindow = { start: '2026-06-10T00:00:00Z', end: '2026-06-11T02:00:00.5+02:00' };

  test('is a window, its explanation, and when to ask again', () => {
    const retryAfter = new Date('2026-06-01T06:00:00Z');
    const explanationURL = 'https://ca.test/why';
    const answer = { ...response({ suggestedWindow, explanationURL }), notBefore: retryAfter };
    expect(parseRenewalInfo(answer)).toEqual({
      info: {
        suggestedWindow: { start: new Date('2026-06-10'), end: new Date('2026-06-11T00:00:00.5Z') },
        explanationURL,
      },
      retryAfter,
    });
  });

  test.each(['javascript:alert(1)', 'no URL', 42, ''])(
    'does without an explanation that is %j',
    (explanationURL) => {
      const { info } = parseRenewalInfo(response({ suggestedWindow, explanationURL }));
      expect(info.explanationURL).toBeUndefined();
    },
  );

  test.each([
    { answer: {}, says: /suggestedWindow/ },
    { answer: { suggestedWindow: { start: '2026-06-10T00:00:00Z' } }, says: /suggestedWindow\.end/ },
    { answer: { suggestedWindow: { start: 'tomorrow', end: 'later' } }, says: /suggestedWindow\.start/ },
    {
      answer: { suggestedWindow: { start: suggestedWindow.start, end: suggestedWindow.start } },
      says: /not after its start/,
    },
    { answer: '<h1>Hotel</h1>', says: /no JSON document/ },
  ])('of $answer is malformed', ({ answer, says }) => {
    expect(() => parseRenewalInfo(response(answer))).toThrowError(
      expect.objectContaining({ code: 'ERR_ACME_MALFORMED', message: expect.stringMatching(says) }),
    );
  });

  test.each(['https://ca.test/ari', 'https://ca.test/ari/'])('is asked for below %s', (url) => {
    expect(renewalInfoUrl(url, 'aki.serial')).toBe('https://ca.test/ari/aki.serial');
  });
});
