import { expect, test } from 'vitest';
import { selfSigned } from '../support/pem.ts';
import { haproxyLab } from './haproxy-fixture.ts';

test('a host with an IPv6 address is observed, changed and verified by handshakes', async ({ signal }) => {
  const lab = await haproxyLab({ host: { address: '::1' } });
  expect(await lab.haproxy.observe([lab.deployment], { signal })).toMatchObject({
    haproxy: { state: 'running' },
  });
  const bundle = selfSigned('lb.test');
  expect(await lab.apply(bundle, { signal })).toEqual({ state: 'verified', handshakes: 4 });
  expect(await lab.host.haproxy.servedFingerprint256('lb.test')).toBe(bundle.fingerprint256);
  // The name of the host is its address: nothing may take a part of it for a port.
  const former = { servername: 'lb.test', fingerprint256: lab.old.fingerprint256, family: undefined };
  expect(await lab.haproxy.verify(former, { signal })).toMatchObject({
    state: 'failed',
    reason: expect.stringContaining(`with [::1]:${lab.host.haproxy.tlsPort}`),
    answered: true,
  });
});
