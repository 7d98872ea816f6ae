import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { factsOf } from '../../src/domain/x509.ts';
import { verifyHandshakes } from '../../src/haproxy/verify.ts';
import { eventually } from '../support/eventually.ts';
import { labKacme } from '../support/lab-kacme.ts';
import { loopbackAddress } from '../support/net.ts';
import { selfSigned } from '../support/pem.ts';
import { connect, effect, obtain, startAcmeLab } from './acme-fixture.ts';

test('addresses are bootstrapped, tested, issued and verified like names', async () => {
  const lab = await labKacme();
  onTestFinished(lab.close);
  const [host] = lab.fleet.hosts;
  if (host === undefined) throw new Error('the lab has a host');
  const { address, haproxy } = host;
  await lab.kacme.overlay({ certificates: { site: { identifiers: [address] } } });
  const leaf = async () => new X509Certificate(await readFile(haproxy.certPath, 'utf8'));

  expect(await lab.kacme.run('bootstrap')).toMatchObject({ status: 0 });
  expect((await leaf()).checkIP(address)).toBe(address);
  await haproxy.start();

  const renewal = await lab.kacme.run('renew');
  expect(renewal).toMatchObject({ status: 0 });
  expect(renewal.stderr).toContain('4 handshakes present it');
  expect((await leaf()).issuer).toContain('Pebble');
  expect(factsOf(await leaf()).identifiers).toEqual([address]);

  const { certificates } = await lab.kacme.status();
  expect(certificates).toMatchObject([{ state: 'valid', identifiers: [address] }]);
  expect((await lab.kacme.run('renew')).stdout).toContain('not due');
});

test('an IPv6 address is issued in whatever spelling the CA writes it', async ({ signal }) => {
  const lab = await startAcmeLab({ challengeAddress: '::1' });
  onTestFinished(lab.close);
  const { authority, close } = await connect(lab.issuer);
  onTestFinished(close);
  const { chainPem } = await obtain(lab, authority, ['::1'], effect(signal));
  expect(factsOf(new X509Certificate(chainPem)).identifiers).toEqual(['::1']);
  expect(lab.served.size).toBe(1);
});

test.each([
  { identifier: '192.0.2.7', sni: false },
  { identifier: '2001:db8::7', sni: false },
  { identifier: 'site.test', sni: 'site.test' },
])('a handshake for $identifier has the SNI $sni', async ({ identifier, sni }) => {
  const { certPem, keyPem, fingerprint256 } = selfSigned(identifier);
  const asked: unknown[] = [];
  const server = createServer({ cert: certPem, key: keyPem }, (socket) => {
    asked.push(socket.servername);
    socket.on('error', () => {}).end();
  });
  server.listen(0, loopbackAddress());
  await once(server, 'listening');
  onTestFinished(async () => {
    server.close();
    await once(server, 'close');
  });
  const { address, port } = server.address() as AddressInfo;
  const verify = { connect: [`{host}:${port}`], handshakes: 2, timeoutMs: 5_000 };
  const verification = await verifyHandshakes(
    verify,
    { name: 'here', address, port: 22 },
    { servername: identifier, fingerprint256, family: undefined },
    { signal: AbortSignal.timeout(10_000), session: undefined },
  );
  expect(verification).toMatchObject({ state: 'verified' });
  await eventually('the server has seen both handshakes', () => asked.length === 2);
  expect(asked).toEqual([sni, sni]);
});
