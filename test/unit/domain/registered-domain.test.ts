import { expect, test } from 'vitest';
import { canonicalIdentifier, isIpAddress } from '../../../src/domain/ip-address.ts';
import { limitedOrder } from '../../../src/domain/rate-limits.ts';
import { countedUnder } from '../../../src/domain/registered-domain.ts';

const SUFFIXES = ['co.uk', 'github.io', 'org'];
const registeredDomain = (name: string) => {
  const suffix = SUFFIXES.find((known) => name.endsWith(`.${known}`));
  if (suffix === undefined) return undefined;
  return `${name
    .slice(0, -suffix.length - 1)
    .split('.')
    .at(-1)}.${suffix}`;
};

test.each([
  ['www.example.org', 'example.org'],
  ['example.org', 'example.org'],
  ['*.blog.example.co.uk', 'example.co.uk'],
  ['me.github.io', 'me.github.io'],
  ['github.io', 'github.io'],
  ['192.0.2.7', '192.0.2.7'],
  ['2001:db8::7', '2001:db8:0:0::/64'],
  ['2001:DB8:0:0:1::', '2001:db8:0:0::/64'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['::1', '0:0:0:0::/64'],
])('%s is counted under %s', (identifier, expected) => {
  expect(countedUnder(identifier, registeredDomain)).toBe(expected);
});

test.each([
  ['192.0.2.7', true],
  ['2001:db8::', true],
  ['1.2.3.example.org', false],
  ['4.3.2.1.in-addr.arpa', false],
  ['localhost', false],
])('whether %s is an IP address: %s', (identifier, expected) => {
  expect(isIpAddress(identifier)).toBe(expected);
});

test.each([
  ['WWW.Example.org', 'www.example.org'],
  ['192.0.2.7', '192.0.2.7'],
  ['2001:DB8:0:0:0:0:0:7', '2001:db8::7'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['::', '::'],
])('%s is spelled %s', (identifier, expected) => {
  expect(canonicalIdentifier(identifier)).toBe(expected);
});

test("an order's addresses are counted by themselves or by their network, each once", () => {
  const identifiers = ['192.0.2.7', '192.0.2.8', '2001:db8::7', '2001:db8::8', 'www.example.org'];
  const { domains, failures } = limitedOrder({ account: 'le', identifiers, kind: 'new' }, registeredDomain);
  expect(domains.map(({ key }) => key)).toEqual(
    ['192.0.2.7', '192.0.2.8', '2001:db8:0:0::/64', 'example.org'].map(
      (one) => `certificatesPerDomain/${one}`,
    ),
  );
  expect(failures.map(({ key }) => key)).toContain('failedAuthorizations/2001:db8::8 for le');
});
