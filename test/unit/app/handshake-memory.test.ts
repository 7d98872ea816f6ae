import { beforeEach, expect, test } from 'vitest';
import { HandshakeMemory, type Presented } from '../../../src/app/handshake-memory.ts';

const MINUTE_MS = 60_000;
const presented = { fingerprint256: 'aa', worker: { pid: 7, startedMs: 500 } };
const verified = { state: 'verified', handshakes: 4 } as const;

let memory: HandshakeMemory;
beforeEach(() => {
  memory = new HandshakeMemory();
});

const recall = (key: string, asked: Presented, nowMs: number) =>
  memory.recall(new Map([[key, asked]]), nowMs).get(key);

/** Passes of two minutes, each with handshakes. */
function settle(): void {
  for (const minute of [0, 1, 2]) memory.keep('host', presented, verified, minute * MINUTE_MS);
}

test('nothing is believed of a place that was never verified', () => {
  expect(recall('host', presented, 0)).toEqual({ state: 'new' });
});

test('after all handshakes one is made in every pass, until two minutes of them agree', () => {
  for (const minute of [0, 1]) {
    memory.keep('host', presented, verified, minute * MINUTE_MS);
    expect(recall('host', presented, minute * MINUTE_MS)).toEqual({ state: 'known' });
  }
  memory.keep('host', presented, verified, 2 * MINUTE_MS);
  expect(recall('host', presented, 2 * MINUTE_MS)).toEqual({
    state: 'believed',
    verification: verified,
  });
});

test('what is settled is asked again after five minutes, and told as it was seen with all handshakes', () => {
  settle();
  expect(recall('host', presented, 7 * MINUTE_MS - 1)?.state).toBe('believed');
  expect(recall('host', presented, 7 * MINUTE_MS)?.state).toBe('known');
  const one = { state: 'verified', handshakes: 1 } as const;
  expect(memory.keep('host', presented, one, 7 * MINUTE_MS)).toEqual(verified);
  expect(recall('host', presented, 8 * MINUTE_MS)?.state).toBe('believed');
});

test.each([
  { when: 'a reload made another process', other: { ...presented, worker: { pid: 8, startedMs: 500 } } },
  {
    when: 'HAProxy was restarted under the same process id, as in a container',
    other: { ...presented, worker: { pid: 7, startedMs: 90_000 } },
  },
  { when: 'another bundle is expected', other: { ...presented, fingerprint256: 'bb' } },
  { when: 'HAProxy does not tell its process', other: { ...presented, worker: undefined } },
])('nothing is believed any more when $when', ({ other }) => {
  settle();
  expect(recall('host', other, 2 * MINUTE_MS)).toEqual({ state: 'new' });
});

test('a process is known to listen alone once it has presented what was swapped into it', () => {
  const { worker } = presented;
  memory.keep('host', presented, verified, 0);
  // An old worker may have the same bundle.
  expect(memory.isAlone('host', worker)).toBe(false);
  memory.keep('host', { ...presented, fingerprint256: 'bb' }, verified, 0);
  memory.swapped('host');
  expect(memory.isAlone('host', worker)).toBe(true);
  memory.keep('host', { ...presented, fingerprint256: 'cc' }, { state: 'verified', handshakes: 1 }, 0);
  expect(memory.isAlone('host', worker)).toBe(true);
  expect(memory.isAlone('host', { pid: 8, startedMs: 500 })).toBe(false);
  expect(memory.isAlone('host', undefined)).toBe(false);
  memory.keep('host', { ...presented, worker: { pid: 8, startedMs: 500 } }, verified, 0);
  expect(memory.isAlone('host', { pid: 8, startedMs: 500 })).toBe(false);
});

test('the first swap into a process does not show that it listens alone', () => {
  const { worker } = presented;
  // An old worker has this bundle since before a reload, which took a stale file.
  memory.keep('host', { ...presented, worker: { pid: 6, startedMs: 100 } }, verified, 0);
  memory.keep('host', presented, verified, 0);
  memory.swapped('host');
  expect(memory.isAlone('host', worker)).toBe(false);
  memory.keep('host', { ...presented, fingerprint256: 'bb' }, verified, 0);
  memory.swapped('host');
  expect(memory.isAlone('host', worker)).toBe(true);
});

test('a leaf that is not presented leaves nothing known of the process', () => {
  memory.keep('host', presented, verified, 0);
  memory.swapped('host');
  memory.keep('host', presented, { state: 'failed', reason: 'another leaf', answered: true }, 0);
  expect(memory.isAlone('host', presented.worker)).toBe(false);
});

test('the start of a process is known to the second or two, and counts as the same', () => {
  settle();
  const other = { ...presented, worker: { pid: 7, startedMs: 2_400 } };
  expect(recall('host', other, 2 * MINUTE_MS)?.state).toBe('believed');
});

test('one failure ends all belief, and another place keeps its own', () => {
  settle();
  for (const minute of [0, 2]) memory.keep('other', presented, verified, minute * MINUTE_MS);
  memory.keep('host', presented, { state: 'failed', reason: 'refused', answered: false }, 3 * MINUTE_MS);
  expect(recall('host', presented, 3 * MINUTE_MS)?.state).toBe('new');
  expect(recall('other', presented, 3 * MINUTE_MS)?.state).toBe('believed');
});

test('of many known places of a host fifty are asked again in a pass, each in its turn', () => {
  const places = new Map(Array.from({ length: 120 }, (_, i) => [`place ${i}`, presented] as const));
  for (const key of places.keys()) memory.keep(key, presented, verified, 0);
  const asked: number[] = [];
  const seen = new Set<string>();
  for (const minute of [1, 2, 3]) {
    const recalled = memory.recall(places, minute * MINUTE_MS);
    const known = [...recalled].filter(([, { state }]) => state === 'known').map(([key]) => key);
    expect([...recalled.values()].filter(({ state }) => state === 'believed')).toHaveLength(
      120 - known.length,
    );
    for (const key of known)
      memory.keep(key, presented, { state: 'verified', handshakes: 1 }, minute * MINUTE_MS);
    asked.push(known.length);
    for (const key of known) seen.add(key);
  }
  expect(asked).toEqual([50, 50, 50]);
  expect(seen).toEqual(new Set(places.keys()));
});

test('many places of a host that were never verified are all asked', () => {
  const places = new Map(Array.from({ length: 120 }, (_, i) => [`place ${i}`, presented] as const));
  const states = [...memory.recall(places, 0).values()].map(({ state }) => state);
  expect(states).toEqual(Array(120).fill('new'));
});

test('what is forgotten is asked for anew', () => {
  settle();
  memory.forget(['host', 'unknown']);
  expect(recall('host', presented, 2 * MINUTE_MS)).toEqual({ state: 'new' });
});
