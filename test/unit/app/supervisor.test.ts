import { expect, test } from 'vitest';
import { Supervisor } from '../../../src/app/supervisor.ts';
import type { DeploymentSpec, KacmeConfig } from '../../../src/domain/model.ts';
import { appFixture, emptyConfig, spec } from './app-fixture.ts';

const configWith = (certificate: string): KacmeConfig => ({
  ...emptyConfig,
  certificates: { [certificate]: { ...spec(), name: certificate } },
});

const unused = () => {
  throw new Error('a standby needs nothing of the world');
};

test('of two reloads side by side the later one counts, even if its files are read faster', async ({
  signal,
}) => {
  const { deps } = await appFixture();
  let slowIsRead: () => void = () => {};
  const slow = new Promise<void>((resolve) => {
    slowIsRead = resolve;
  });
  let reads = 0;
  const supervisor = new Supervisor({
    config: configWith('first'),
    loadConfig: async () => {
      reads += 1;
      if (reads > 1) return configWith('newest');
      await slow;
      return configWith('older');
    },
    depsFor: () => ({
      ...deps,
      hosts: { host: unused, retain: unused, close: unused },
      directory: { hosts: unused },
      connectCertificateAuthority: unused,
      resolver: undefined,
      selfCheck: undefined,
      readForeignDirectory: unused,
    }),
    leadership: { tryAcquire: unused, campaign: unused, holder: unused },
  });

  const reloads = [supervisor.reloadConfig({ signal }), supervisor.reloadConfig({ signal })];
  // Enough for whatever does not wait for its turn.
  await new Promise((resolve) => setImmediate(resolve));
  slowIsRead();
  await Promise.all(reloads);

  const { certificates } = await supervisor.status({ signal });
  expect(certificates.map(({ name }) => name)).toEqual(['newest']);
});

test('a deployment that is configured no more is told, with what stays and what ends it', async ({
  signal,
}) => {
  const { deps, logged } = await appFixture();
  const deployment: DeploymentSpec = {
    certificate: 'site',
    pool: 'lb',
    path: '/certs/site.pem',
    file: '/srv/site.pem',
    copies: [],
    mode: 0o600,
    owner: undefined,
    group: undefined,
    takeOver: false,
  };
  const crtList = { path: '/certs/list', file: '/srv/list' };
  const listed = { ...deployment, path: '/certs/listed.pem', file: '/srv/listed.pem', crtList };
  const kept = { ...deployment, path: '/certs/kept.pem' };
  const supervisor = new Supervisor({
    config: { ...emptyConfig, deployments: [deployment, listed, kept] },
    loadConfig: async () => ({ ...emptyConfig, deployments: [kept] }),
    depsFor: () => ({
      ...deps,
      hosts: { host: unused, retain: unused, close: unused },
      directory: { hosts: unused },
      connectCertificateAuthority: unused,
      resolver: undefined,
      selfCheck: undefined,
      readForeignDirectory: unused,
    }),
    leadership: { tryAcquire: unused, campaign: unused, holder: unused },
  });
  await supervisor.reloadConfig({ signal });
  expect(logged().filter(({ msg }) => String(msg).startsWith('deployment removed'))).toMatchObject([
    { path: '/certs/site.pem', file: '/srv/site.pem', reason: expect.stringContaining('haproxy.cfg') },
    { path: '/certs/listed.pem', crtList: '/srv/list', reason: expect.stringContaining('off the crt-list') },
  ]);
});
