import { expect, test } from 'vitest';
import type { AppDeps } from '../../../src/app/deps.ts';
import { Loops } from '../../../src/app/loops.ts';
import { LocalService } from '../../../src/app/service.ts';
import { HostError } from '../../../src/domain/host-error.ts';
import type { KacmeConfig } from '../../../src/domain/model.ts';
import { localPool } from '../../support/ssh-target.ts';
import { appFixture, effect, emptyConfig } from './app-fixture.ts';

const unused = () => {
  throw new Error('an empty configuration needs nothing of the world');
};

/** Nothing of a host that cannot be observed is asked for. */
const untouched = {
  apply: unused,
  readBundle: unused,
  rehearse: unused,
  reload: unused,
  sweep: unused,
  abortAbandoned: unused,
  verify: unused,
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

test('a host that cannot be reached is tried again every 10 s, so that its return is noticed within 30 s', async () => {
  const { deps } = await appFixture();
  const stop = new AbortController();
  const options = effect(stop.signal);
  const sleepsMs: number[] = [];
  const unreachable = async () => {
    throw new HostError('ERR_HOST_UNREACHABLE', {
      host: 'lb/one',
      step: 'connect',
      reason: 'no answer',
      retry: 'later',
    });
  };
  const world: AppDeps = {
    ...deps,
    clock: {
      ...deps.clock,
      sleep: async (ms) => {
        if (sleepsMs.push(ms) === 3) stop.abort(new Error('stopping'));
      },
    },
    hosts: {
      host: (pool, host) => ({ ...untouched, pool, host, observe: unreachable }),
      retain: unused,
      close: unused,
    },
    directory: { hosts: unused },
    connectCertificateAuthority: unused,
    resolver: undefined,
    selfCheck: undefined,
    readForeignDirectory: unused,
  };
  const host = { name: 'one', address: '127.0.0.1', port: 22 };
  const config: KacmeConfig = {
    ...emptyConfig,
    pools: { lb: { ...localPool([host]), name: 'lb' } },
    deployments: [
      {
        certificate: 'site',
        pool: 'lb',
        path: '/certs/a.pem',
        file: '/certs/a.pem',
        copies: [],
        mode: 0o600,
        owner: undefined,
        group: undefined,
        takeOver: false,
      },
    ],
    reconcile: { everyMs: 30_000 },
  };
  const service = new LocalService(config, world, { mandate: options.mandate });
  await new Loops(config, service, world).run(options);
  expect(sleepsMs).toEqual([10_000, 10_000, 10_000]);
});
