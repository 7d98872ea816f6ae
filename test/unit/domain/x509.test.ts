import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  certificatesIn,
  factsOf,
  publicKeyHash,
  readBundlePem,
  renderBundlePem,
  rootNameOf,
} from '../../../src/domain/x509.ts';
import { selfSigned, testCa } from '../../support/pem.ts';

const leafOf = (pem: string) => {
  const [leaf] = certificatesIn(pem);
  if (leaf === undefined) throw new Error('no certificate');
  return leaf;
};

describe('factsOf', () => {
  test('reads names, fingerprints and self-signature', () => {
    const made = selfSigned(['A.example.org', 'b.example.org']);
    const leaf = leafOf(made.certPem);
    const facts = factsOf(leaf);
    expect(facts.identifiers).toEqual(['a.example.org', 'b.example.org']);
    expect(facts.selfSigned).toBe(true);
    expect(facts.fingerprint256).toBe(createHash('sha256').update(leaf.raw).digest('hex'));
    expect(facts.fingerprint1).toBe(createHash('sha1').update(leaf.raw).digest('hex'));
    expect(facts.notAfter.getTime()).toBeGreaterThan(facts.notBefore.getTime());
  });

  test('spells addresses as the configuration does', () => {
    const { certPem } = selfSigned(['a.example.org', '192.0.2.7', '2001:DB8:0:0::7']);
    expect(factsOf(leafOf(certPem)).identifiers).toEqual(['a.example.org', '192.0.2.7', '2001:db8::7']);
  });

  test('one issued by a CA is not self-signed', () => {
    const made = testCa().issue(['a.example.org']);
    expect(factsOf(leafOf(made.certPem)).selfSigned).toBe(false);
  });
});

describe('readBundlePem', () => {
  test('judges many bundles in turn, each by itself, and the same again', () => {
    const bundles = Array.from({ length: 110 }, (_, i) => selfSigned(`host${i}.example.org`));
    const judgements = [...bundles, ...bundles].map(({ bundlePem }) => readBundlePem(bundlePem));
    const fingerprints = judgements.map((one) => one.state === 'loadable' && one.facts.fingerprint256);
    expect(fingerprints).toEqual([...bundles, ...bundles].map(({ fingerprint256 }) => fingerprint256));
  });

  const ca = testCa();
  const good = ca.issue(['a.example.org']);
  const other = ca.issue(['b.example.org']);

  test('accepts leaf, chain and key', () => {
    const pem = renderBundlePem(`${good.certPem}\n${ca.certPem}`, good.keyPem);
    expect(readBundlePem(pem)).toMatchObject({
      state: 'loadable',
      facts: { identifiers: ['a.example.org'] },
    });
  });

  test.each([
    { what: 'an empty file', pem: ' \n', reason: 'the file is empty' },
    { what: 'a key alone', pem: good.keyPem, reason: 'it holds no certificate' },
    { what: 'a certificate alone', pem: good.certPem, reason: 'it holds no private key' },
    {
      what: 'the key of another',
      pem: good.certPem + other.keyPem,
      reason: 'its private key does not fit its certificate',
    },
    {
      what: 'the chain before the leaf',
      pem: ca.certPem + good.certPem + good.keyPem,
      reason: 'certificate 2 did not issue certificate 1',
    },
    {
      what: 'a file cut short in its key',
      pem: good.certPem + good.keyPem.slice(0, 80),
      reason: 'it holds no private key',
    },
    {
      what: 'a damaged key',
      pem: good.certPem + good.keyPem.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA'),
      reason: 'its private key cannot be parsed',
    },
  ])('refuses $what', ({ pem, reason }) => {
    expect(readBundlePem(pem)).toEqual({ state: 'broken', reason });
  });

  test('says that a damaged certificate cannot be parsed', () => {
    const pem = good.certPem.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA') + good.keyPem;
    expect(readBundlePem(pem)).toMatchObject({
      state: 'broken',
      reason: expect.stringContaining('cannot be parsed'),
    });
  });
});

test('a rendered bundle has no blank line and ends with a newline: a blank line ends a runtime API payload', () => {
  const { certPem, keyPem } = selfSigned(['a.example.org']);
  const pem = renderBundlePem(`${certPem}\r\n\r\n`, `\n\n${keyPem}\n  \n`);
  expect(pem).not.toMatch(/\n\s*\n/);
  expect(pem.endsWith('-----END PRIVATE KEY-----\n')).toBe(true);
  expect(readBundlePem(pem).state).toBe('loadable');
});

test('a chain leads to the issuer of its topmost certificate', () => {
  const root = testCa('Some Root X1');
  const leaf = root.intermediate('E7').intermediate('E7a').issue(['a.example.org']);
  expect(rootNameOf(leaf.chainPem)).toBe('Some Root X1');
  expect(rootNameOf(leaf.chainPem + root.certPem)).toBe('Some Root X1');
  expect(rootNameOf(leaf.certPem)).toBe('E7a');
  expect(rootNameOf('no certificate')).toBeUndefined();
});

test('a public key has the hash that a TLSA record holds', () => {
  const { certificate, keyPem } = selfSigned('a.example.org');
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  expect(publicKeyHash(keyPem)).toBe(createHash('sha256').update(spki).digest('hex'));
});
