import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { LETS_ENCRYPT_LIMITS, LETS_ENCRYPT_STAGING_LIMITS } from '../../../src/domain/rate-limits.ts';
import { valid } from './mistakes.ts';

const PRODUCTION = 'acme-v02.api.letsencrypt.org';

function limitsOf(host: string, limits?: string) {
  const written = limits === undefined ? '' : `    limits: ${limits}\n`;
  const text = valid('    contact', `${written}    contact`).replace(PRODUCTION, () => host);
  return parseConfig([{ file: 'kacme.yaml', text }]).issuers['letsencrypt']?.limits;
}

describe('the limits of an issuer', () => {
  test.each([
    [PRODUCTION, LETS_ENCRYPT_LIMITS],
    ['acme-staging-v02.api.letsencrypt.org', LETS_ENCRYPT_STAGING_LIMITS],
    ['ca.example.org', {}],
    [`${PRODUCTION}.example.org`, {}],
  ])('are by default those documented for %s', (host, expected) => {
    expect(limitsOf(host)).toEqual(expected);
  });

  test('are each replaced by what is named, with the exemptions of the CA', () => {
    expect(limitsOf(PRODUCTION, '{ certificatesPerDomain: { count: 500, per: 7d } }')).toEqual({
      ...LETS_ENCRYPT_LIMITS,
      certificatesPerDomain: { capacity: 500, refillMs: 1_209_600, spares: ['renewal', 'ari-renewal'] },
    });
  });

  test('hold for every order of a CA whose exemptions are not known', () => {
    expect(limitsOf('ca.example.org', '{ ordersPerAccount: { count: 2, per: 1h } }')).toEqual({
      ordersPerAccount: { capacity: 2, refillMs: 1_800_000, spares: [] },
    });
  });

  test('are taken away one by one or altogether', () => {
    const { certificatesPerSet: _, ...others } = LETS_ENCRYPT_LIMITS;
    expect(limitsOf(PRODUCTION, '{ certificatesPerSet: none }')).toEqual(others);
    expect(limitsOf(PRODUCTION, 'none')).toEqual({});
  });
});
