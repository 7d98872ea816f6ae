import { expect, test } from 'vitest';
import { decideKey, type HeldKey } from '../../../src/domain/key-reuse.ts';
import { publicKeyHash } from '../../../src/domain/x509.ts';
import { selfSigned } from '../../support/pem.ts';

const { keyPem } = selfSigned('site.test', { keyType: 'ecdsa-p256' });
const held = (origin: HeldKey['origin']): HeldKey => ({ origin, keyPem });
const on = { key: 'ecdsa-p256', reuseKey: true } as const;
const none: ReadonlySet<string> = new Set();

test.each(['acme', 'adopted'] as const)('keeps the key of a bundle whose origin is %s', (origin) => {
  expect(decideKey(on, held(origin), none)).toEqual({ reuse: true, keyPem });
});

test.each([
  { when: 'reuse is off', spec: { ...on, reuseKey: false }, reason: 'reuseKey is off' },
  { when: 'nothing is held', bundle: undefined, reason: 'no bundle is held' },
  {
    when: 'the bundle is only self-signed',
    bundle: held('self-signed'),
    reason: 'the bundle in use is only self-signed',
  },
  {
    when: 'another type is configured',
    spec: { ...on, key: 'rsa-2048' as const },
    reason: 'the key in use is of type ecdsa-p256',
  },
  {
    when: 'somebody else may know it',
    revoked: new Set([publicKeyHash(keyPem)]),
    reason: 'a certificate with the key in use is revoked, or to be',
  },
])('makes a new key when $when', ({ reason, ...given }) => {
  const { spec, bundle, revoked } = { spec: on, bundle: held('acme'), revoked: none, ...given };
  expect(decideKey(spec, bundle, revoked)).toEqual({ reuse: false, reason });
});
