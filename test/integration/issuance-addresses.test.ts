import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { factsOf } from '../../src/domain/x509.ts';
import { labKacme } from '../support/lab-kacme.ts';
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
