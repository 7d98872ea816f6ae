import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { readUncountedFailures, uncountedFailures } from '../../../src/app/failed-validations.ts';
import { KacmeError } from '../../../src/domain/errors.ts';
import type { Authorization, CertificateAuthority, Order } from '../../../src/ports/certificate-authority.ts';

const authorization = (identifier: string, status: Authorization['status'], token: string) => ({
  url: `https://ca.test/authz/${identifier}`,
  identifier,
  status,
  http01: { url: 'https://ca.test/chall', token, keyAuthorization: `${token}.print` },
  error: undefined,
});
const ours = { challengeTokens: ['ours'] };

test.each([
  { what: 'failed, challenged by this order', status: 'invalid', token: 'ours', counts: true },
  { what: 'failed, challenged by another order', status: 'invalid', token: 'theirs', counts: false },
  { what: 'valid', status: 'valid', token: 'ours', counts: false },
  { what: 'expired', status: 'expired', token: 'ours', counts: false },
] as const)('an authorization that is $what counts: $counts', ({ status, token, counts }) => {
  const failures = uncountedFailures(ours, [authorization('a.test', status, token)]);
  expect(failures).toEqual(counts ? ['a.test'] : []);
});

describe('of a dead order', () => {
  const log = pino({ level: 'silent' });
  const order = { authorizations: ['https://ca.test/authz/1'] } as unknown as Order;
  const ca = (answer: Authorization | KacmeError): CertificateAuthority =>
    ({
      authorization: async () => {
        if (answer instanceof KacmeError) throw answer;
        return answer;
      },
    }) as unknown as CertificateAuthority;
  const refusal = (problem: string) =>
    new KacmeError('ERR_ACME_PROBLEM', 'no', { retry: 'later', problems: [problem] });

  test('those that the CA tells are counted', async ({ signal }) => {
    const authority = ca(authorization('a.test', 'invalid', 'ours'));
    expect(await readUncountedFailures(ours, order, { authority, log }, { signal })).toEqual(['a.test']);
  });

  test('what the CA has forgotten is not', async ({ signal }) => {
    const authority = ca(refusal('malformed'));
    expect(await readUncountedFailures(ours, order, { authority, log }, { signal })).toEqual([]);
  });

  test('a CA in trouble is asked again later', async ({ signal }) => {
    const authority = ca(refusal('serverInternal'));
    const reading = readUncountedFailures(ours, order, { authority, log }, { signal });
    await expect(reading).rejects.toMatchObject({ code: 'ERR_ACME_PROBLEM' });
  });
});
