import { expect, test } from 'vitest';
import type { Target } from '../../../src/app/host-journal.ts';
import { ReloadPauses } from '../../../src/app/reload-pauses.ts';
import type { DeploymentSpec } from '../../../src/domain/model.ts';
import { localPool } from '../../support/ssh-target.ts';

const MINUTE_MS = 60_000;
const reload = {
  command: undefined,
  prepare: undefined,
  validate: undefined,
  on: 'host',
  timeoutMs: 1_000,
} as const;
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

function fixture(pool: Partial<Target['pool']> = {}) {
  const host = { name: 'a', address: '10.0.0.11', port: 22 };
  const target: Target = { pool: { ...localPool([host]), reload, ...pool }, host, deployments: [deployment] };
  let nowMs = Date.parse('2026-06-08T00:00:00Z');
  const clock = { now: () => new Date(nowMs), monotonicMs: () => nowMs, sleep: async () => {} };
  const pauses = new ReloadPauses({ clock, random: { uniform: () => 0 } });
  return {
    target,
    pauses,
    option: () => pauses.option(target, deployment),
    advance: (ms: number) => (nowMs += ms),
  };
}

test('a pool without a reload never has one', () => {
  expect(fixture({ reload: undefined }).option()).toEqual({ state: 'impossible' });
});

test('a reload that failed is possible again further and further apart, and at once after a good one', () => {
  const { target, pauses, option, advance } = fixture();
  expect(option()).toEqual({ state: 'possible' });
  for (const minutes of [1, 10, 100]) {
    pauses.failed(target, deployment, new Error('no such backend'));
    advance(minutes * MINUTE_MS - 1);
    expect(option()).toMatchObject({ state: 'waits', reason: expect.stringContaining('no such backend') });
    advance(1);
    expect(option()).toEqual({ state: 'possible' });
  }
  pauses.helped(target, deployment);
  pauses.failed(target, deployment, new Error('again'));
  advance(MINUTE_MS);
  expect(option()).toEqual({ state: 'possible' });
});

test('an operator who distributes does not wait for it', () => {
  const { target, pauses, option } = fixture();
  pauses.failed(target, deployment, new Error('no such backend'));
  pauses.end([target]);
  expect(option()).toEqual({ state: 'possible' });
});

test('outside the maintenance window it waits, and says until when', () => {
  const window = { days: ['mon'], fromMinute: 120, toMinute: 240, timezone: 'UTC' } as const;
  const { option, advance } = fixture({ maintenanceWindow: window });
  expect(option()).toEqual({
    state: 'waits',
    reason: 'waits for the maintenance window until 2026-06-08T02:00:00.000Z',
  });
  advance(120 * MINUTE_MS);
  expect(option()).toEqual({ state: 'possible' });
});
