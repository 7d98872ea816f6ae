import { expect, test } from 'vitest';
import { verificationTarget, verifyHandshakes } from '../../../src/haproxy/verify.ts';

test.each([
  { template: '{host}:8444', address: '10.0.0.1', expected: { address: '10.0.0.1', port: 8444 } },
  { template: '{host}:8444', address: 'fd00::13', expected: { address: 'fd00::13', port: 8444 } },
  { template: '[{host}]:8444', address: 'fd00::13', expected: { address: 'fd00::13', port: 8444 } },
  { template: '{host}:443', address: 'lb.test', expected: { address: 'lb.test', port: 443 } },
  { template: '[fd00::1]:443', address: '10.0.0.1', expected: { address: 'fd00::1', port: 443 } },
  { template: 'vip.test:443', address: '10.0.0.1', expected: { address: 'vip.test', port: 443 } },
])('$template at $address is port $expected.port of $expected.address', ({ template, address, expected }) => {
  expect(verificationTarget(template, { name: 'one', address, port: 22 })).toMatchObject(expected);
});

test('without an address to connect to it is unverified, not verified', async () => {
  const host = { name: 'one', address: '10.0.0.1', port: 22 };
  const verify = { connect: [], handshakes: 4, timeoutMs: 1_000 };
  const { signal } = new AbortController();
  const request = { servername: 'a.test', fingerprint256: 'ab', family: undefined };
  expect(await verifyHandshakes(verify, host, request, { signal, session: undefined })).toMatchObject({
    state: 'unverified',
  });
});
