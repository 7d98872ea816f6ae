import { expect, test } from 'vitest';
import type { AppDeps } from '../../../src/app/deps.ts';
import { Loops } from '../../../src/app/loops.ts';
import { LocalService } from '../../../src/app/service.ts';
import { appFixture, effect, emptyConfig } from './app-fixture.ts';

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
    directory: { hosts: unused },
    connectCertificateAuthority: unused,
    resolver: undefined,
    selfCheck: undefined,
    readForeignDirectory: unused,
  };
  const service = new LocalService(emptyConfig, world, { mandate: options.mandate });
  let ended = false;
  const running = new Loops(emptyConfig, service, world).run(options).finally(() => {
    ended = true;
  });
  await deps.store.list('', options);
  expect(ended).toBe(false);
  stop.abort(new Error('stopping'));
  await expect(running).resolves.toBeUndefined();
});
