import { expect, onTestFinished, test } from 'vitest';
import { type LabOptions, labKacme } from '../support/lab-kacme.ts';

async function lab(options: LabOptions) {
  const made = await labKacme(options);
  onTestFinished(made.close);
  return made;
}

test('from nothing to a certificate of the CA on every host, through HAProxy', async () => {
  const { kacme, fleet, served } = await lab({
    hosts: 3,
    certificates: { site: ['site.test', 'www.site.test'] },
  });

  const bootstrap = await kacme.run('bootstrap', '--json');
  expect(bootstrap).toMatchObject({ status: 0 });
  expect(JSON.parse(bootstrap.stdout)).toMatchObject({
    outcome: 'done',
    certificates: [{ action: 'created' }],
  });
  await Promise.all(fleet.hosts.map(({ haproxy }) => haproxy.start()));
  const [selfSigned] = await served();
  expect(new Set(await served())).toEqual(new Set([selfSigned]));

  const service = await kacme.serve();
  await service.logged('issuance finished', { certificate: 'site' });
  const { certificates } = await kacme.settled();
  expect(certificates).toMatchObject([{ name: 'site', state: 'valid', generation: 2, issuer: 'pebble' }]);
  const issued = certificates[0]?.fingerprint256;
  expect(issued).not.toBe(selfSigned);
  expect(new Set(await served())).toEqual(new Set([issued]));
});
