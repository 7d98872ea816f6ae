import pino from 'pino';
import { expect, test } from 'vitest';
import type { Target } from '../../../src/app/host-journal.ts';
import { Leftovers } from '../../../src/app/leftovers.ts';
import type { DeploymentSpec } from '../../../src/domain/model.ts';
import type { HaproxyHost } from '../../../src/ports/haproxy-host.ts';
import { heldMandate } from '../../support/mandate.ts';
import { localPool } from '../../support/ssh-target.ts';

const host = { name: 'lb1', address: '127.0.0.1', port: 22 };
const deployment: DeploymentSpec = {
  certificate: 'site',
  pool: 'lbs',
  path: '/etc/haproxy/site.pem',
  file: '/etc/haproxy/site.pem',
  copies: [],
  mode: 0o600,
  owner: undefined,
  group: undefined,
  takeOver: false,
};
const target: Target = { pool: localPool([host]), host, deployments: [deployment] };

const unused = () => {
  throw new Error('not in this test');
};

/** Leftovers of one place, and how often its host was asked to look for them. */
function leftovers() {
  let sweeps = 0;
  const swept: HaproxyHost = {
    pool: target.pool,
    host,
    observe: unused,
    apply: unused,
    readBundle: unused,
    rehearse: unused,
    reload: unused,
    abortAbandoned: unused,
    verify: unused,
    sweep: async () => {
      sweeps += 1;
      return [];
    },
  };
  const hosts = { host: () => swept, retain: unused, close: unused };
  const parts = new Leftovers({ hosts, log: pino({ enabled: false }) });
  const sweep = (epoch = 1) =>
    parts.sweep(target, [deployment], {
      signal: AbortSignal.timeout(5_000),
      mandate: heldMandate(epoch),
    });
  const isSwept = (epoch = 1) =>
    parts.isSwept(target, deployment, {
      signal: AbortSignal.timeout(5_000),
      mandate: heldMandate(epoch),
    });
  return { parts, sweep, isSwept, count: () => sweeps };
}

test('a place is swept once under a mandate, however often it is in sync', async () => {
  const { sweep, count } = leftovers();
  await sweep();
  await sweep();
  expect(count()).toBe(1);
  await sweep(2);
  expect(count()).toBe(2);
});

test('a change that could not clean up has its place swept again', async () => {
  const { parts, sweep, count } = leftovers();
  await sweep();
  parts.expect(target, deployment);
  await sweep();
  await sweep();
  expect(count()).toBe(2);
});

test('a place is known to be swept under this mandate only, and until something may be left there', async () => {
  const { parts, sweep, isSwept } = leftovers();
  expect(isSwept()).toBe(false);
  await sweep();
  expect(isSwept()).toBe(true);
  expect(isSwept(2)).toBe(false);
  parts.expect(target, deployment);
  expect(isSwept()).toBe(false);
});
