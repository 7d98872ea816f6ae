import { describe, expect, onTestFinished, test } from 'vitest';
import type { Mandate } from '../../src/ports/leadership.ts';
import type { Change, StateStore, Transaction } from '../../src/ports/state-store.ts';

export interface StateStoreHarness {
  readonly store: StateStore;
  /** The right to write to `store`, held. */
  readonly mandate: Mandate;
  /** The same data as another process sees it. */
  another(): Promise<StateStore>;
  /** Closes `store` and opens the same data again. */
  reopen(): Promise<StateStore>;
  /** A mandate that believes it is held, although a newer epoch was granted meanwhile. */
  deposed(): Promise<Mandate>;
}

const NOTHING: Transaction = { conditions: [], puts: [], deletes: [] };

/** What every `StateStore` must do. `open` starts from an empty store and cleans up with `onTestFinished`. */
export function describeStateStore(name: string, open: () => Promise<StateStoreHarness>): void {
  const put = (key: string, value: string, revision?: number): Transaction => ({
    conditions: revision === undefined ? [] : [{ key, revision }],
    puts: [{ key, value }],
    deletes: [],
  });
  const remove = (...keys: readonly string[]): Transaction => ({ ...NOTHING, deletes: keys });

  describe(`${name}: reading and writing`, () => {
    test('a key that was never written is undefined', async ({ signal }) => {
      const { store } = await open();
      expect(await store.get('account/ca', { signal })).toBeUndefined();
      expect(await store.list('', { signal })).toEqual([]);
    });

    test.for([
      { what: 'an empty value', value: '' },
      { what: 'lines and quotes', value: '-----BEGIN "X"-----\r\n\n\\n\t\0end' },
      { what: 'any script', value: 'Zürich \u{1f512} \u2028' },
      { what: 'one MiB', value: 'x'.repeat(1024 * 1024) },
    ])('$what comes back as it was written', async ({ value }, { signal }) => {
      const { store, mandate } = await open();
      const revision = await store.transact(put('account/ca', value), { signal, mandate });
      expect(await store.get('account/ca', { signal })).toEqual({ key: 'account/ca', value, revision });
    });

    test('more than one MiB is refused', async ({ signal }) => {
      const { store, mandate } = await open();
      const large = put('account/ca', 'ü'.repeat(512 * 1024 + 1));
      await expect(store.transact(large, { signal, mandate })).rejects.toMatchObject({
        code: 'ERR_INTERNAL',
      });
      expect(await store.get('account/ca', { signal })).toBeUndefined();
    });

    test.for(['', '/', 'a/', '/a', 'a//b', '.', '..', 'a/../b', 'A', 'a b', 'a\\b', 'a\0', 'ä', 'a+b'])(
      '%j is no key',
      async (key) => {
        const signal = new AbortController().signal;
        const { store, mandate } = await open();
        await expect(store.get(key, { signal })).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
        for (const transaction of [
          put(key, ''),
          remove(key),
          { ...NOTHING, conditions: [{ key, revision: 0 }] },
        ]) {
          await expect(store.transact(transaction, { signal, mandate })).rejects.toMatchObject({
            code: 'ERR_INTERNAL',
          });
        }
      },
    );

    test('a key may be the beginning of another one', async ({ signal }) => {
      const { store, mandate } = await open();
      const keys = ['a', 'a/b', 'a/b/c', 'a.json', 'a.json/b', '.a', 'a-_.9'];
      await store.transact(
        { ...NOTHING, puts: keys.map((key) => ({ key, value: key })) },
        { signal, mandate },
      );
      for (const key of keys) expect(await store.get(key, { signal })).toMatchObject({ value: key });
      await store.transact(remove('a/b'), { signal, mandate });
      expect((await store.list('a', { signal })).map(({ key }) => key)).toEqual(
        ['a', 'a-_.9', 'a.json', 'a.json/b', 'a/b/c'].sort(),
      );
    });

    test('list gives the keys with a prefix, sorted, with value and revision', async ({ signal }) => {
      const { store, mandate } = await open();
      for (const key of ['bundle/web/2', 'bundle/web/1', 'bundle/webmail/1', 'bundle', 'order/web/ca']) {
        await store.transact(put(key, `of ${key}`), { signal, mandate });
      }
      const keys = async (prefix: string) => (await store.list(prefix, { signal })).map(({ key }) => key);
      expect(await keys('bundle/web/')).toEqual(['bundle/web/1', 'bundle/web/2']);
      expect(await keys('bundle/web')).toEqual(['bundle/web/1', 'bundle/web/2', 'bundle/webmail/1']);
      expect(await keys('b')).toEqual(['bundle', 'bundle/web/1', 'bundle/web/2', 'bundle/webmail/1']);
      expect(await keys('bundle/web/1/')).toEqual([]);
      expect(await store.list('order/', { signal })).toEqual([await store.get('order/web/ca', { signal })]);
    });

    test('everything is there after it was opened again', async ({ signal }) => {
      const { store, mandate, reopen } = await open();
      await store.transact(put('account/ca', 'one'), { signal, mandate });
      await store.transact(put('account/gone', 'two'), { signal, mandate });
      await store.transact(remove('account/gone'), { signal, mandate });
      const before = await store.list('', { signal });
      expect(await (await reopen()).list('', { signal })).toEqual(before);
    });
  });

  describe(`${name}: transactions`, () => {
    test('revisions only grow, over deletes and a new start too', async ({ signal }) => {
      const { store, mandate, reopen } = await open();
      const revisions = [
        await store.transact(put('a', '1'), { signal, mandate }),
        await store.transact(put('b', '1'), { signal, mandate }),
        await store.transact(remove('a', 'b'), { signal, mandate }),
      ];
      const again = await reopen();
      revisions.push(await again.transact(put('a', '2'), { signal, mandate }));
      expect(revisions).toEqual([...new Set(revisions)].sort((x, y) => x - y));
      expect(await again.get('a', { signal })).toMatchObject({ revision: revisions.at(-1) });
    });

    test.for([
      { when: 'the key exists and should not', revision: () => 0 },
      { when: 'the key was changed since', revision: (first: number) => first },
      { when: 'the revision is of the future', revision: (first: number) => first + 99 },
    ])('a condition fails when $when, and nothing changes', async ({ revision }, { signal }) => {
      const { store, mandate } = await open();
      const first = await store.transact(put('a', '1'), { signal, mandate });
      await store.transact(put('a', '2'), { signal, mandate });
      const before = await store.list('', { signal });
      const refused = store.transact(
        {
          conditions: [{ key: 'a', revision: revision(first) }],
          puts: [{ key: 'b', value: '' }],
          deletes: ['a'],
        },
        { signal, mandate },
      );
      await expect(refused).rejects.toMatchObject({ code: 'ERR_STORE_CONFLICT' });
      expect(await store.list('', { signal })).toEqual(before);
    });

    test('a condition may name a key that the transaction leaves alone', async ({ signal }) => {
      const { store, mandate } = await open();
      const revision = await store.transact(put('a', '1'), { signal, mandate });
      const conditions = [
        { key: 'a', revision },
        { key: 'absent', revision: 0 },
      ];
      await store.transact({ ...put('b', '1'), conditions }, { signal, mandate });
      expect(await store.get('a', { signal })).toMatchObject({ revision });
    });

    test('a transaction without changes only checks its conditions', async ({ signal }) => {
      const { store, mandate } = await open();
      const revision = await store.transact(put('a', '1'), { signal, mandate });
      const conditions = [{ key: 'a', revision }];
      expect(await store.transact({ ...NOTHING, conditions }, { signal, mandate })).toBe(revision);
    });

    test('a key that was deleted counts as one that never was', async ({ signal }) => {
      const { store, mandate } = await open();
      await store.transact(put('a', '1'), { signal, mandate });
      await store.transact(remove('a', 'never-there'), { signal, mandate });
      expect(await store.get('a', { signal })).toBeUndefined();
      await store.transact(put('a', '2', 0), { signal, mandate });
      expect(await store.get('a', { signal })).toMatchObject({ value: '2' });
    });

    test('one transaction puts and deletes several keys at one revision', async ({ signal }) => {
      const { store, mandate } = await open();
      await store.transact(put('old', ''), { signal, mandate });
      const puts = ['x/1', 'x/2', 'y'].map((key) => ({ key, value: key }));
      const revision = await store.transact({ ...NOTHING, puts, deletes: ['old'] }, { signal, mandate });
      expect(await store.list('', { signal })).toEqual(puts.map((entry) => ({ ...entry, revision })));
    });

    test('a transaction that changes a key twice is refused', async ({ signal }) => {
      const { store, mandate } = await open();
      const twice = { ...put('a', '1'), deletes: ['a'] };
      await expect(store.transact(twice, { signal, mandate })).rejects.toMatchObject({
        code: 'ERR_INTERNAL',
      });
    });

    test('of many that change the same revision exactly one succeeds', async ({ signal }) => {
      const { store, mandate } = await open();
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, i) => store.transact(put('a', String(i), 0), { signal, mandate })),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    });

    test('of many side by side each has its own outcome, and what one needs of another is kept in order', async ({
      signal,
    }) => {
      const { store, mandate } = await open();
      const effect = { signal, mandate };
      const revision = await store.transact(put('shared', '0'), effect);
      const reason = new Error('not needed any more');
      const outcomes = await Promise.allSettled([
        ...Array.from({ length: 20 }, (_, i) => store.transact(put(`own/${i}`, String(i)), effect)),
        store.transact({ ...put('never', '1'), conditions: [{ key: 'own/none', revision: 7 }] }, effect),
        store.transact(put('aborted', '1'), { signal: AbortSignal.abort(reason), mandate }),
        store.transact({ ...put('shared', '1'), conditions: [{ key: 'shared', revision }] }, effect),
        store.transact({ ...put('after', '1'), conditions: [{ key: 'shared', revision }] }, effect),
        store.transact(put('shared', '2'), effect),
      ]);
      const states = outcomes.map(({ status }) => status === 'fulfilled');
      expect(states).toEqual([...Array(20).fill(true), false, false, true, false, true]);
      for (const [i, outcome] of outcomes.slice(0, 20).entries()) {
        const entry = await store.get(`own/${i}`, { signal });
        expect({ status: 'fulfilled', value: entry?.revision }).toEqual(outcome);
      }
      expect((await store.list('', { signal })).map(({ key }) => key).sort()).toEqual(
        [...Array.from({ length: 20 }, (_, i) => `own/${i}`), 'shared'].sort(),
      );
      expect(await store.get('shared', { signal })).toMatchObject({ value: '2' });
    });

    test('nobody ever sees half a transaction', async ({ signal }) => {
      const { store, mandate, another } = await open();
      const reader = await another();
      const names = ['a', 'b', 'c', 'd'];
      let writing = true;
      // The sides take turns, so that neither is only in the store's latest transaction. `a` comes and goes.
      const write = async () => {
        for (let n = 0; n < 40; n += 1) {
          const side = n % 2 === 0 ? 'left' : 'right';
          const whole = n % 4 < 2;
          const puts = (whole ? names : names.slice(1)).map((key) => ({
            key: `${side}/${key}`,
            value: String(n),
          }));
          const deletes = whole ? [] : [`${side}/a`];
          await store.transact({ conditions: [], puts, deletes }, { signal, mandate });
        }
        writing = false;
      };
      const read = async (from: StateStore) => {
        let last = 0;
        while (writing) {
          const entries = await from.list('', { signal });
          for (const side of ['left/', 'right/']) {
            const half = entries.filter(({ key }) => key.startsWith(side));
            expect(new Set(half.map(({ revision }) => revision)).size).toBeLessThanOrEqual(1);
            if (half.length > 0) expect(half).toHaveLength(Number(half[0]?.value) % 4 < 2 ? 4 : 3);
          }
          // What was seen once is not unseen later, not even by reading one key.
          const seen = Math.max(0, ...entries.map(({ revision }) => revision));
          expect(seen).toBeGreaterThanOrEqual(last);
          const right = entries.find(({ key }) => key === 'right/b')?.revision ?? 0;
          const now = (await from.get('right/b', { signal }))?.revision ?? 0;
          expect(now).toBeGreaterThanOrEqual(right);
          last = seen;
        }
      };
      await Promise.all([write(), read(store), read(reader)]);
    });

    test('an aborted transaction changes nothing', async () => {
      const { store, mandate } = await open();
      const reason = new Error('not needed any more');
      const aborted = AbortSignal.abort(reason);
      await expect(store.transact(put('a', '1'), { signal: aborted, mandate })).rejects.toBe(reason);
      expect(await store.list('', { signal: new AbortController().signal })).toEqual([]);
    });
  });

  describe(`${name}: one writer`, () => {
    test('a writer whose mandate is lost is refused', async ({ signal }) => {
      const { store, mandate } = await open();
      await mandate.release();
      await expect(store.transact(put('a', '1'), { signal, mandate })).rejects.toMatchObject({
        code: 'ERR_MANDATE_LOST',
      });
      expect(await store.get('a', { signal })).toBeUndefined();
    });

    test('a deposed writer that does not know it yet is refused', async ({ signal }) => {
      const { store, deposed } = await open();
      const mandate = await deposed();
      mandate.assertHeld();
      await expect(store.transact(put('a', '1'), { signal, mandate })).rejects.toMatchObject({
        code: 'ERR_MANDATE_LOST',
      });
      expect(await store.get('a', { signal })).toBeUndefined();
    });
  });

  describe(`${name}: watching`, () => {
    /** Reads changes one by one; the watch ends with the test. */
    function watching(store: StateStore, prefix: string) {
      const stop = new AbortController();
      const changes = store.watch(prefix, { signal: stop.signal })[Symbol.asyncIterator]();
      onTestFinished(async () => {
        stop.abort();
        await changes.return?.();
      });
      const next = async (): Promise<Change | undefined> => (await changes.next()).value;
      return { stop, next };
    }

    test('it gives the present state, then changes, then deletions', async ({ signal }) => {
      const { store, mandate } = await open();
      await store.transact(put('challenge/a', '1'), { signal, mandate });
      await store.transact(put('elsewhere', '1'), { signal, mandate });
      const { next } = watching(store, 'challenge/');
      expect(await next()).toMatchObject({ key: 'challenge/a', entry: { value: '1' } });
      const created = next();
      await store.transact(put('challenge/b', '2'), { signal, mandate });
      expect(await created).toMatchObject({ key: 'challenge/b', entry: { value: '2' } });
      const gone = next();
      await store.transact(put('elsewhere', '2'), { signal, mandate });
      await store.transact(remove('challenge/a'), { signal, mandate });
      expect(await gone).toEqual({ key: 'challenge/a', entry: undefined });
    });

    test('it sees what another process changes', async ({ signal }) => {
      const { store, mandate, another } = await open();
      const { next } = watching(await another(), 'challenge/');
      const created = next();
      await store.transact(put('challenge/a', '1'), { signal, mandate });
      expect(await created).toMatchObject({ key: 'challenge/a', entry: { value: '1' } });
    });

    test('a change that comes while nobody asks is not lost', async ({ signal }) => {
      const { store, mandate } = await open();
      await store.transact(put('a', '1'), { signal, mandate });
      const { next } = watching(store, '');
      await next();
      for (const value of ['2', '3', '4']) await store.transact(put('a', value), { signal, mandate });
      let last: Change | undefined;
      do last = await next();
      while (last?.entry?.value !== '4');
      expect(last.key).toBe('a');
    });

    test('it ends quietly when it is aborted', async ({ signal }) => {
      const { store, mandate } = await open();
      await store.transact(put('a', '1'), { signal, mandate });
      const { stop, next } = watching(store, '');
      await next();
      const end = next();
      stop.abort();
      expect(await end).toBeUndefined();
    });

    test('it ends quietly when the store is closed', async () => {
      const { store, another } = await open();
      const other = await another();
      const { next } = watching(other, '');
      const end = next();
      await other.close();
      expect(await end).toBeUndefined();
      await store.close();
    });
  });
}
