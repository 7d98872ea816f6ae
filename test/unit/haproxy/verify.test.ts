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
  const target = verificationTarget(template, { name: 'one', address, port: 22 }, undefined);
  expect(target).toMatchObject({ ...expected, ofHost: template.includes('{host}') });
});

test.each([
  { template: '127.0.0.1:8444', through: 'host', ofHost: true },
  { template: '[::1]:8444', through: 'host', ofHost: true },
  { template: 'localhost:8444', through: 'host', ofHost: true },
  { template: '10.0.0.100:443', through: 'host', ofHost: false },
  { template: 'vip.test:443', through: 'host', ofHost: false },
  { template: '127.0.0.1:8444', through: 'jump', ofHost: false },
  { template: '127.0.0.1:8444', through: 'direct', ofHost: false },
] as const)('what answers at $template, $through, is the host: $ofHost', ({ template, through, ofHost }) => {
  const host = { name: 'one', address: '10.0.0.1', port: 22 };
  expect(verificationTarget(template, host, through).ofHost).toBe(ofHost);
});

test('a session that is lost says nothing of what HAProxy presents', async ({ signal }) => {
  const lost = new Error('the host stopped answering');
  const closed = new AbortController();
  const session = {
    closed: closed.signal,
    connectTcp: async () => {
      closed.abort(lost);
      throw lost;
    },
  };
  const host = { name: 'one', address: '10.0.0.1', port: 22 };
  const verify = { connect: ['{host}:443'], handshakes: 4, timeoutMs: 1_000, through: 'host' } as const;
  const request = { servername: 'a.test', fingerprint256: 'ab', family: undefined };
  await expect(verifyHandshakes(verify, host, request, { signal, session })).rejects.toBe(lost);
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
