import { describe, expect, test } from 'vitest';
import { certificatesNamed } from '../../../src/app/names.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { mistakesIn, VALID, valid } from './mistakes.ts';

const PATHS = 'path: { ecdsa: /e.pem, rsa: /r.pem }';

/** The small configuration with a dual certificate; its deployment as given. */
function dual(deployment = PATHS, key = '[ecdsa-p256, rsa-2048]', name = 'external'): string {
  return valid('key: ecdsa-p256', `key: ${key}`)
    .replace('path: /p.pem', deployment)
    .replaceAll('external', name);
}

const load = (text: string) => parseConfig([{ file: 'kacme.yaml', text }]);

describe('a dual certificate', () => {
  test.each([
    {
      key: '[ecdsa-p256, rsa-2048]',
      expected: { external: 'ecdsa-p256', 'external-rsa': 'rsa-2048' },
    },
    {
      key: '[rsa-4096, ecdsa-p384]',
      expected: { external: 'rsa-4096', 'external-ecdsa': 'ecdsa-p384' },
    },
  ])('of $key is two, the first of which has its name', ({ key, expected }) => {
    const { certificates } = load(dual(PATHS, key));
    const keys = Object.entries(certificates).map(([name, spec]) => [name, spec.key]);
    expect(Object.fromEntries(keys)).toEqual(expected);
    for (const [name, spec] of Object.entries(certificates)) {
      expect(spec).toMatchObject({ name, dualOf: 'external', identifiers: ['cloud.example.org'] });
    }
  });

  test('is deployed as two, each to its own paths', () => {
    const { deployments } = load(
      dual(`${PATHS}\n    file: { ecdsa: /fe.pem, rsa: /fr.pem }\n    copies: { ecdsa: [/c.pem], rsa: [] }`),
    );
    expect(deployments).toMatchObject([
      { certificate: 'external', family: 'ecdsa', path: '/e.pem', file: '/fe.pem', copies: ['/c.pem'] },
      { certificate: 'external-rsa', family: 'rsa', path: '/r.pem', file: '/fr.pem', copies: [] },
    ]);
    expect(load(dual()).deployments).toMatchObject([{ file: '/e.pem' }, { file: '/r.pem' }]);
  });

  test('leaves a single one as it is', () => {
    const { certificates, deployments } = load(VALID);
    expect(certificates['external']).not.toHaveProperty('dualOf');
    expect(deployments[0]).not.toHaveProperty('family');
  });
});

describe('in commands', () => {
  const named = (names: readonly string[], text = dual()) =>
    certificatesNamed(load(text), names).map(({ name }) => name);

  test.each([
    { names: [], expected: ['external', 'external-rsa'] },
    { names: ['external'], expected: ['external', 'external-rsa'] },
    { names: ['external-ecdsa'], expected: ['external'] },
    { names: ['external-rsa'], expected: ['external-rsa'] },
    { names: ['external-rsa', 'external'], expected: ['external-rsa', 'external'] },
  ])('$names names $expected', ({ names, expected }) => {
    expect(named(names)).toEqual(expected);
  });

  test('a half that does not exist is refused, with the names there are', () => {
    expect(() => named(['external-rsa'], VALID)).toThrow('no certificate named external-rsa');
    expect(() => named(['extrenal'])).toThrow(
      expect.objectContaining({ code: 'ERR_UNKNOWN_NAME', remedy: 'name one of: external' }),
    );
  });
});

describe('is refused', () => {
  const key = '10:10: certificates.external.key';
  test.each([
    ['with one type', dual(PATHS, '[rsa-2048]'), `${key}: expected one ECDSA and one RSA type for a dual`],
    ['with three types', dual(PATHS, '[rsa-2048, ecdsa-p256, ecdsa-p384]'), `${key}: expected one ECDSA`],
    ['with none', dual(PATHS, '[]'), `${key}: expected one ECDSA and one RSA type`],
    ['with two RSA types', dual(PATHS, '[rsa-2048, rsa-3072]'), `${key}: expected one ECDSA and one RSA`],
    ['with the same twice', dual(PATHS, '[ecdsa-p256, ecdsa-p256]'), `${key}: expected one ECDSA and one`],
    [
      'with an unknown type',
      dual(PATHS, '[ecdsa-p256, rsa-1024]'),
      '10:23: certificates.external.key[1]: expected one of ecdsa-p256, ',
    ],
    [
      'when another certificate has the name of a half',
      dual().replace('pools:', '  external-rsa: { identifiers: [a.test], issuers: [letsencrypt] }\npools:'),
      '11:3: certificates.external-rsa: the RSA half of the dual certificate "external" has this name',
    ],
    [
      'when its name leaves no room for that of a half',
      dual(PATHS, undefined, 'e'.repeat(58)),
      `7:3: certificates.${'e'.repeat(58)}: expected at most 57 characters`,
    ],
    [
      'deployed to one path',
      dual('path: /p.pem'),
      '20:11: deployments[0].path: expected { ecdsa: PATH, rsa: PATH }: the certificate "external" is dual',
    ],
    [
      'deployed to one file',
      dual(`${PATHS}\n    file: /f.pem`),
      '21:11: deployments[0].file: expected { ecdsa: PATH, rsa: PATH }',
    ],
    [
      'deployed with one list of copies',
      dual(`${PATHS}\n    copies: [/c.pem]`),
      '21:13: deployments[0].copies: expected { ecdsa: [PATH], rsa: [PATH] }',
    ],
    [
      'deployed to half a path',
      dual('path: { ecdsa: /e.pem }'),
      '20:5: deployments[0].path.rsa: is required: expected an absolute path',
    ],
    [
      'deployed with an unknown family',
      dual('path: { ecdsa: /e.pem, rsa: /r.pem, dsa: /d.pem }'),
      '20:41: deployments[0].path.dsa: unknown key; did you mean "rsa"?',
    ],
    [
      'deployed to a relative path',
      dual('path: { ecdsa: /e.pem, rsa: r.pem }'),
      '20:33: deployments[0].path.rsa: expected an absolute path',
    ],
    [
      'deployed to one place twice',
      dual('path: { ecdsa: /e.pem, rsa: /e.pem }'),
      '20:33: deployments[0].path.rsa: deployments[0].path.ecdsa is the same place in this pool',
    ],
    [
      'deployed to one file twice',
      dual(`${PATHS}\n    file: { ecdsa: /f.pem, rsa: /f.pem }`),
      'deployments[0].file.rsa: deployments[0].file.ecdsa is the same place in this pool',
    ],
    [
      'deployed by the name of a half',
      dual().replace('certificate: external', 'certificate: external-rsa'),
      'deployments[0].certificate: no certificate has the name "external-rsa"',
    ],
    [
      "deployed to a path of Kolla's",
      dual('path: { ecdsa: /etc/haproxy/certificates/haproxy.pem, rsa: /r.pem }'),
      "20:20: deployments[0].path.ecdsa: Kolla's HAProxy loads this path and no second one beside it",
    ],
    [
      "deployed to one path, which is Kolla's",
      dual('path: /etc/haproxy/certificates/haproxy-internal.pem'),
      "20:11: deployments[0].path: Kolla's HAProxy loads this path",
    ],
  ])('%s', (_when, text, expected) => {
    const mistakes = mistakesIn(text);
    expect(mistakes).toHaveLength(1);
    expect(mistakes[0]).toContain(expected);
  });

  test.each([
    ['a path', valid('path: /p.pem', PATHS), '20:11: deployments[0].path: expected one path'],
    [
      'copies',
      valid('path: /p.pem', 'path: /p.pem\n    copies: { ecdsa: [/c], rsa: [/d] }'),
      '21:13: deployments[0].copies: expected one list of paths: the certificate "external" has one key type',
    ],
  ])('%s for each key family where there is one', (_what, text, expected) => {
    expect(mistakesIn(text)).toEqual([expect.stringContaining(expected)]);
  });
});
