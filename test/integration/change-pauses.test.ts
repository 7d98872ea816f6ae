import { beforeEach, expect, test } from 'vitest';
import { ChangePauses } from '../../src/app/change-pauses.ts';
import type { Target } from '../../src/app/host-journal.ts';
import { KacmeError } from '../../src/domain/errors.ts';
import type { DeploymentSpec } from '../../src/domain/model.ts';
import { heldMandate } from '../support/mandate.ts';
import { localPool } from '../support/ssh-target.ts';
import { appFixture, effect } from '../unit/app/app-fixture.ts';

const MINUTE_MS = 60_000;
const deployment: DeploymentSpec = {
  certificate: 'external',
  pool: 'lbs',
  path: '/p.pem',
  file: '/p.pem',
  copies: [],
  mode: 0o600,
  owner: undefined,
  group: undefined,
  takeOver: false,
};

function targetNamed(name: string, pool: Partial<Target['pool']> = {}): Target {
  const host = { name, address: '10.0.0.11', port: 22 };
  return { pool: { ...localPool([host]), ...pool }, host, deployments: [deployment] };
}
const target = targetNamed('a');

const failure = {
  error: new KacmeError('ERR_HOST_UNVERIFIED', 'lbs/a: presents another', { retry: 'later' }),
  means: 'swap',
  generation: 2,
} as const;

let app: Awaited<ReturnType<typeof appFixture>>;
let pauses: ChangePauses;
beforeEach(async () => {
  app = await appFixture();
  pauses = new ChangePauses(app.deps);
});

test('a place whose change failed waits, longer each time, over a restart too; other places do not', async ({
  signal,
}) => {
  const options = effect(signal);
  for (const minutes of [1, 10, 100]) {
    expect(await pauses.of(target, deployment, 2, options)).toBeUndefined();
    const until = await pauses.failed(target, deployment, failure, options);
    expect(until?.getTime()).toBe(app.deps.clock.now().getTime() + minutes * MINUTE_MS);
    pauses = new ChangePauses(await app.restarted());
    app.advance(minutes * MINUTE_MS - 1);
    expect(await pauses.of(target, deployment, 2, options)).toMatchObject({
      until,
      failure: { code: 'ERR_HOST_UNVERIFIED', message: 'lbs/a: presents another' },
    });
    expect(await pauses.of(targetNamed('b'), deployment, 2, options)).toBeUndefined();
    expect(await pauses.of(target, { ...deployment, path: '/q.pem' }, 2, options)).toBeUndefined();
    expect(await pauses.of(target, deployment, 3, options)).toBeUndefined();
    app.advance(1);
  }
});

test('a success forgets the failures', async ({ signal }) => {
  const options = effect(signal);
  await pauses.failed(target, deployment, failure, options);
  await pauses.helped(target, deployment, options);
  expect(await app.deps.store.list('pause/', options)).toEqual([]);
  expect(await pauses.of(target, deployment, 2, options)).toBeUndefined();
  const until = await pauses.failed(target, deployment, failure, options);
  expect(until?.getTime()).toBe(app.deps.clock.now().getTime() + MINUTE_MS);
});

test('ended by hand it does not wait, in the next process neither, and the next pause is the longer one', async ({
  signal,
}) => {
  const options = effect(signal);
  await pauses.failed(target, deployment, failure, options);
  const restarted = new ChangePauses(await app.restarted());
  await restarted.recall([target], options);
  await restarted.end([target], options);
  expect(await restarted.of(target, deployment, 2, options)).toBeUndefined();
  const again = new ChangePauses(await app.restarted());
  expect(await again.of(target, deployment, 2, options)).toBeUndefined();
  const until = await again.failed(target, deployment, failure, options);
  expect(until?.getTime()).toBe(app.deps.clock.now().getTime() + 10 * MINUTE_MS);
});

test('what cannot be stored counts until the next restart, and is logged', async ({ signal }) => {
  const options = effect(signal);
  const mandate = heldMandate();
  mandate.lose();
  await pauses.failed(target, deployment, failure, { signal, mandate });
  expect(app.logged()).toContainEqual(expect.objectContaining({ msg: 'pause cannot be stored' }));
  expect(await pauses.of(target, deployment, 2, options)).toMatchObject({ failures: 1 });
  const restarted = new ChangePauses(await app.restarted());
  expect(await restarted.of(target, deployment, 2, options)).toBeUndefined();
});

test('a pool without a reload never has one', () => {
  expect(pauses.reload(target)).toEqual({ state: 'impossible' });
});

test('outside the maintenance window a reload waits, and says until when', () => {
  const reload = {
    command: undefined,
    prepare: undefined,
    validate: undefined,
    on: 'host',
    timeoutMs: 1_000,
  } as const;
  const maintenanceWindow = { days: ['mon'], fromMinute: 120, toMinute: 240, timezone: 'UTC' } as const;
  const windowed = targetNamed('a', { reload, maintenanceWindow });
  expect(pauses.reload(windowed)).toEqual({
    state: 'waits',
    reason: 'waits for the maintenance window until 2026-06-01T02:00:00.000Z',
  });
  app.advance(120 * MINUTE_MS);
  expect(pauses.reload(windowed)).toEqual({ state: 'possible' });
});

test('a record that cannot be read keeps no place waiting, and is replaced by the next', async ({
  signal,
}) => {
  const options = effect(signal);
  await pauses.failed(target, deployment, failure, options);
  const [stored] = await app.deps.store.list('pause/', options);
  if (stored === undefined) throw new Error('a pause is stored');
  const puts = [{ key: stored.key, value: 'not a record' }];
  await app.deps.store.transact({ conditions: [], puts, deletes: [] }, options);

  pauses = new ChangePauses(await app.restarted());
  expect(await pauses.of(target, deployment, 2, options)).toBeUndefined();
  expect(app.logged()).toContainEqual(expect.objectContaining({ msg: 'pause cannot be read' }));
  await pauses.failed(target, deployment, failure, options);
  pauses = new ChangePauses(await app.restarted());
  expect(await pauses.of(target, deployment, 2, options)).toMatchObject({ generation: 2 });
});
