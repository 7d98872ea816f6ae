import { expect, test } from 'vitest';
import type { AppDeps } from '../../../src/app/deps.ts';
import { Loops } from '../../../src/app/loops.ts';
import { LocalService } from '../../../src/app/service.ts';
import type { KacmeConfig } from '../../../src/domain/model.ts';
import { appFixture, effect } from './app-fixture.ts';

const empty: KacmeConfig = {
  issuers: {},
  certificates: {},
  pools: {},
  deployments: [],
  challenge: { listen: { host: '127.0.0.1', port: 0 }, selfCheck: 'off' },
  operations: { listen: { host: '127.0.0.1', port: 0 } },
  control: { socket: '/nowhere' },
  store: { file: '/nowhere' },
  reconcile: { everyMs: 1_000 },
  keepBundles: 3,
  log: { level: 'info' },
};

const unused = () => {
  throw new Error('an empty configuration needs nothing of the world');
};

test('with nothing to do the loops last until they are told to stop', async () => {
  const { deps } = await appFixture();
  const stop = new AbortController();
  const options = effect(stop.signal);
  const world: AppDeps = {
    ...deps,
    hosts: { host: unused, retain: unused, close: unused },
    connectCertificateAuthority: unused,
    selfCheck: undefined,
  };
  const service = new LocalService(empty, world, { mandate: options.mandate });
  let ended = false;
  const running = new Loops(empty, service, world).run(options).finally(() => {
    ended = true;
  });
  await deps.store.list('', options);
  expect(ended).toBe(false);
  stop.abort(new Error('stopping'));
  await expect(running).resolves.toBeUndefined();
});
