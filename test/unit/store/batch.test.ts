import { expect, test } from 'vitest';
import { merged, takeBatch, type Waiting } from '../../../src/store/batch.ts';
import { heldMandate } from '../../support/mandate.ts';

const mandate = heldMandate();
const { signal } = new AbortController();

interface Named {
  readonly puts?: readonly string[];
  readonly deletes?: readonly string[];
  readonly conditions?: readonly string[];
  readonly by?: Waiting['mandate'];
  readonly bytes?: number;
}

const waiting = ({ puts = [], deletes = [], conditions = [], by = mandate, bytes = 1 }: Named): Waiting => ({
  transaction: {
    puts: puts.map((key) => ({ key, value: 'x'.repeat(bytes) })),
    deletes,
    conditions: conditions.map((key) => ({ key, revision: 1 })),
  },
  signal,
  mandate: by,
  resolve: () => undefined,
  reject: () => undefined,
});

test.each<{ what: string; all: readonly Named[]; taken: readonly number[] }>([
  { what: 'nothing, when nothing waits', all: [], taken: [] },
  { what: 'all that change different keys', all: [{ puts: ['a'] }, { deletes: ['b'] }], taken: [0, 1] },
  { what: 'not a second change of a key', all: [{ puts: ['a'] }, { deletes: ['a'] }], taken: [0] },
  {
    what: 'not a change that depends on one before it',
    all: [{ puts: ['a'] }, { puts: ['b'], conditions: ['a'] }],
    taken: [0],
  },
  {
    what: 'not a change of what one before it depends on',
    all: [{ puts: ['a'], conditions: ['b'] }, { puts: ['b'] }],
    taken: [0],
  },
  {
    what: 'two that depend on the same key, which neither changes',
    all: [
      { puts: ['a'], conditions: ['c'] },
      { puts: ['b'], conditions: ['c'] },
    ],
    taken: [0, 1],
  },
  {
    what: 'nobody who touches what one that stays touches',
    all: [{ puts: ['a'] }, { puts: ['a', 'b'] }, { puts: ['b'] }, { puts: ['c'] }],
    taken: [0, 3],
  },
  { what: 'none of another mandate', all: [{ puts: ['a'] }, { puts: ['b'], by: heldMandate() }], taken: [0] },
  {
    what: 'no more than 32 KiB together, but always the first',
    all: [{ puts: ['a', 'b'], bytes: 2 ** 15 }, { puts: ['c'] }],
    taken: [0],
  },
])('a commit takes $what', ({ all, taken }) => {
  const line = all.map(waiting);
  const before = [...line];
  expect(takeBatch(line).map((one) => before.indexOf(one))).toEqual(taken);
  expect(line).toEqual(before.filter((_, i) => !taken.includes(i)));
});

test('transactions become one with all that each of them has', () => {
  const [first, second] = [waiting({ puts: ['a'], conditions: ['a'] }), waiting({ deletes: ['b'] })];
  expect(merged([first.transaction, second.transaction])).toEqual({
    conditions: [{ key: 'a', revision: 1 }],
    puts: [{ key: 'a', value: 'x' }],
    deletes: ['b'],
  });
});
