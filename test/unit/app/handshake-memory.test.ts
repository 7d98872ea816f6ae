import { beforeEach, expect, test } from 'vitest';
import { HandshakeMemory } from '../../../src/app/handshake-memory.ts';

const MINUTE_MS = 60_000;
const presented = { fingerprint256: 'aa', worker: { pid: 7, startedMs: 500 } };
const verified = { state: 'verified', handshakes: 4 } as const;

let memory: HandshakeMemory;
beforeEach(() => {
  memory = new HandshakeMemory();
});

/** Passes of two minutes, each with handshakes. */
function settle(): void {
  for (const minute of [0, 1, 2]) memory.keep('host', presented, verified, minute * MINUTE_MS);
}

test('nothing is believed of a place that was never verified', () => {
  expect(memory.recall('host', presented, 0)).toEqual({ state: 'new' });
});

test('after all handshakes one is made in every pass, until two minutes of them agree', () => {
  for (const minute of [0, 1]) {
    memory.keep('host', presented, verified, minute * MINUTE_MS);
    expect(memory.recall('host', presented, minute * MINUTE_MS)).toEqual({ state: 'known' });
  }
  memory.keep('host', presented, verified, 2 * MINUTE_MS);
  expect(memory.recall('host', presented, 2 * MINUTE_MS)).toEqual({
    state: 'believed',
    verification: verified,
  });
});

test('what is settled is asked again after five minutes, and told as it was seen with all handshakes', () => {
  settle();
  expect(memory.recall('host', presented, 7 * MINUTE_MS - 1).state).toBe('believed');
  expect(memory.recall('host', presented, 7 * MINUTE_MS).state).toBe('known');
  const one = { state: 'verified', handshakes: 1 } as const;
  expect(memory.keep('host', presented, one, 7 * MINUTE_MS)).toEqual(verified);
  expect(memory.recall('host', presented, 8 * MINUTE_MS).state).toBe('believed');
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
  expect(memory.recall('host', other, 2 * MINUTE_MS)).toEqual({ state: 'new' });
});

test('a process is known by all handshakes that were made with it, whatever it presents next', () => {
  const { worker } = presented;
  expect(memory.knows('host', worker)).toBe(false);
  memory.keep('host', presented, verified, 0);
  expect(memory.knows('host', worker)).toBe(true);
  memory.keep('host', { ...presented, fingerprint256: 'bb' }, { state: 'verified', handshakes: 1 }, 0);
  expect(memory.knows('host', worker)).toBe(true);
  expect(memory.knows('host', { pid: 8, startedMs: 500 })).toBe(false);
  expect(memory.knows('host', undefined)).toBe(false);
  memory.keep('host', presented, { state: 'failed', reason: 'another leaf', answered: true }, 0);
  expect(memory.knows('host', worker)).toBe(false);
});

test('the start of a process is known to the second or two, and counts as the same', () => {
  settle();
  const other = { ...presented, worker: { pid: 7, startedMs: 2_400 } };
  expect(memory.recall('host', other, 2 * MINUTE_MS).state).toBe('believed');
});

test('one failure ends all belief, and another place keeps its own', () => {
  settle();
  for (const minute of [0, 2]) memory.keep('other', presented, verified, minute * MINUTE_MS);
  memory.keep('host', presented, { state: 'failed', reason: 'refused', answered: false }, 3 * MINUTE_MS);
  expect(memory.recall('host', presented, 3 * MINUTE_MS).state).toBe('new');
  expect(memory.recall('other', presented, 3 * MINUTE_MS).state).toBe('believed');
});
