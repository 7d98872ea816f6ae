import { pino } from 'pino';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { CanaryGate, type Turn } from '../../../src/app/canary.ts';
import type { ErrorReport } from '../../../src/domain/errors.ts';
import type { Clock } from '../../../src/ports/clock.ts';
import type { EffectOptions } from '../../../src/ports/leadership.ts';
import type { StateStore } from '../../../src/ports/state-store.ts';
import { FileStateStore } from '../../../src/store/file-store.ts';
import { heldMandate } from '../../support/mandate.ts';
import { scratchDirectory } from '../../support/scratch.ts';

const log = pino({ level: 'silent' });
const id = { pool: 'lb', certificate: 'external', generation: 2 };
let now: number;
let store: StateStore;
const clock: Clock = { now: () => new Date(now), monotonicMs: () => now, sleep: async () => {} };
const random = { uniform: () => 0 };

beforeEach(async () => {
  now = Date.parse('2026-06-01T00:00:00Z');
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  store = await FileStateStore.open(scratch.path, { clock });
  onTestFinished(() => store.close());
});

const refused: ErrorReport = { code: 'ERR_HAPROXY_REFUSED', message: 'lb/one: refused', retry: 'later' };

const newGate = () => new CanaryGate({ store, clock, random, log });

function lead(turn: Turn) {
  if (turn.kind !== 'lead') throw new Error(`expected to lead, got ${turn.kind}`);
  return turn.canary;
}

describe('CanaryGate', () => {
  test('lets one host lead; the others wait for it and follow', async ({ signal }) => {
    const options = { signal, mandate: heldMandate() };
    const gate = newGate();
    const canary = lead(await gate.turn(id, 'one', options));
    const others = Promise.all([gate.turn(id, 'two', options), gate.turn(id, 'three', options)]);
    await canary.proven();
    expect(await others).toMatchObject([{ kind: 'follow' }, { kind: 'follow' }]);
  });

  test('gives the lead to another host when the first fails for a reason of its own', async ({ signal }) => {
    const options = { signal, mandate: heldMandate() };
    const gate = newGate();
    const first = lead(await gate.turn(id, 'one', options));
    const waiting = gate.turn(id, 'two', options);
    first.passOn();
    expect((await waiting).kind).toBe('lead');
  });

  test('halts the rollout when the bundle is in doubt, longer each time, and then lets a canary try again', async ({
    signal,
  }) => {
    const options = { signal, mandate: heldMandate() };
    const gate = newGate();
    const first = lead(await gate.turn(id, 'one', options));
    const waiting = gate.turn(id, 'two', options);
    await first.halt(refused);
    const minute = new Date(now + 60_000);
    expect(await waiting).toEqual({ kind: 'halted', host: 'one', failure: refused, until: minute });
    expect(await gate.withoutLeading(id, options)).toMatchObject({ kind: 'halted' });

    now = minute.getTime();
    const second = lead(await gate.turn(id, 'two', options));
    expect(await second.halt(refused)).toEqual({ until: new Date(now + 600_000) });
  });

  test('is resumed by an operator at once, and the next pause is the longer one all the same', async ({
    signal,
  }) => {
    const options = { signal, mandate: heldMandate() };
    await lead(await newGate().turn(id, 'one', options)).halt(refused);
    const gate = newGate();
    expect(await gate.turn(id, 'one', options)).toMatchObject({ kind: 'halted' });
    await gate.resume(id, options);
    const again = lead(await gate.turn(id, 'one', options));
    expect(await again.halt(refused)).toEqual({ until: new Date(now + 600_000) });
  });

  test('has nothing to resume where nothing was halted', async ({ signal }) => {
    const options = { signal, mandate: heldMandate() };
    const gate = newGate();
    await gate.resume(id, options);
    await lead(await gate.turn(id, 'one', options)).proven();
    await gate.resume(id, options);
    expect(await gate.turn(id, 'two', options)).toMatchObject({ kind: 'follow' });
  });

  test('remembers over a restart what was proven and what was halted', async ({ signal }) => {
    const options = { signal, mandate: heldMandate() };
    await lead(await newGate().turn(id, 'one', options)).halt(refused);
    expect(await newGate().turn(id, 'one', options)).toMatchObject({ kind: 'halted' });
    now += 60_000;
    await lead(await newGate().turn(id, 'one', options)).proven();
    expect(await newGate().turn(id, 'two', options)).toMatchObject({ kind: 'follow' });
  });

  test('asks for a new canary with each generation, and turns away whoever comes with an older one', async ({
    signal,
  }) => {
    const options = { signal, mandate: heldMandate() };
    const gate = newGate();
    await lead(await gate.turn(id, 'one', options)).proven();
    const next = { ...id, generation: 3 };
    expect((await gate.turn(next, 'one', options)).kind).toBe('lead');
    expect(await gate.turn(id, 'two', options)).toEqual({ kind: 'superseded' });
  });

  test('a change of files alone neither leads nor waits', async ({ signal }) => {
    const options = { signal, mandate: heldMandate() };
    const gate = newGate();
    lead(await gate.turn(id, 'one', options));
    expect(await gate.withoutLeading(id, options)).toEqual({ kind: 'alone' });
  });

  describe('hosts that do not verify after the canary did', () => {
    const unverified = (host: string): ErrorReport => ({
      code: 'ERR_HOST_UNVERIFIED',
      message: `lb/${host}: verify`,
      retry: 'later',
    });
    const follow = async (gate: CanaryGate, host: string, options: EffectOptions) => {
      const turn = await gate.turn(id, host, options);
      if (turn.kind !== 'follow') throw new Error(`expected to follow, got ${turn.kind}`);
      return turn.follower;
    };

    test('halt the rollout for the others once they are too many, over a restart', async ({ signal }) => {
      const options = { signal, mandate: heldMandate() };
      await lead(await newGate().turn(id, 'one', options)).proven();
      await (await follow(newGate(), 'two', options)).doubt(unverified('two'), 2);
      const gate = newGate();
      await (await follow(gate, 'three', options)).doubt(unverified('three'), 2);
      const halted = {
        kind: 'halted',
        host: 'three',
        failure: unverified('three'),
        until: new Date(now + 60_000),
      };
      expect(await gate.turn(id, 'four', options)).toEqual(halted);
      expect(await newGate().turn(id, 'four', options)).toEqual(halted);
      now += 60_000;
      expect((await gate.turn(id, 'four', options)).kind).toBe('lead');
    });

    test('count once each, however often they fail', async ({ signal }) => {
      const options = { signal, mandate: heldMandate() };
      const gate = newGate();
      await lead(await gate.turn(id, 'one', options)).proven();
      for (let i = 0; i < 3; i++) await (await follow(gate, 'two', options)).doubt(unverified('two'), 2);
      expect((await gate.turn(id, 'three', options)).kind).toBe('follow');
    });

    test('no longer count when they do', async ({ signal }) => {
      const options = { signal, mandate: heldMandate() };
      const gate = newGate();
      await lead(await gate.turn(id, 'one', options)).proven();
      await (await follow(gate, 'two', options)).doubt(unverified('two'), 2);
      await (await follow(gate, 'two', options)).proven();
      await (await follow(gate, 'three', options)).doubt(unverified('three'), 2);
      expect((await gate.turn(id, 'four', options)).kind).toBe('follow');
    });

    test('at the same moment halt it once, and the next halt is longer although a canary was proven between', async ({
      signal,
    }) => {
      const options = { signal, mandate: heldMandate() };
      const gate = newGate();
      await lead(await gate.turn(id, 'one', options)).proven();
      const hosts = ['two', 'three', 'four'];
      const failAll = async () => {
        const followers = await Promise.all(hosts.map((host) => follow(gate, host, options)));
        await Promise.all(followers.map((follower, i) => follower.doubt(unverified(hosts[i] ?? ''), 2)));
      };
      await failAll();
      expect(await gate.turn(id, 'two', options)).toMatchObject({ until: new Date(now + 60_000) });
      now += 60_000;
      await lead(await gate.turn(id, 'five', options)).proven();
      await failAll();
      expect(await gate.turn(id, 'two', options)).toMatchObject({ until: new Date(now + 600_000) });
    });

    test('of an older generation have no say', async ({ signal }) => {
      const options = { signal, mandate: heldMandate() };
      const gate = newGate();
      await lead(await gate.turn(id, 'one', options)).proven();
      const late = await follow(gate, 'two', options);
      const next = { ...id, generation: 3 };
      const canary = lead(await gate.turn(next, 'one', options));
      await late.doubt(unverified('two'), 1);
      await canary.proven();
      expect((await gate.turn(next, 'three', options)).kind).toBe('follow');
    });
  });

  test('whoever waits for a canary can be stopped', async ({ signal }) => {
    const gate = newGate();
    lead(await gate.turn(id, 'one', { signal, mandate: heldMandate() }));
    const stop = new AbortController();
    const waiting = gate.turn(id, 'two', { signal: stop.signal, mandate: heldMandate() });
    const reason = new Error('stopping');
    stop.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});
