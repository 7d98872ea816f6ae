import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { scopedSignal } from '../../../src/domain/scoped-signal.ts';

test('aborts with the first of its sources, and with that reason', () => {
  const [one, other] = [new AbortController(), new AbortController()];
  using scoped = scopedSignal(one.signal, other.signal);
  other.abort('second');
  one.abort('first');
  expect(scoped.signal.reason).toBe('second');
});

test('is aborted from the beginning when a source is', () => {
  using scoped = scopedSignal(AbortSignal.abort('before'));
  expect(scoped.signal.reason).toBe('before');
});

test('leaves nothing on its sources and follows them no longer once it is disposed of', () => {
  const source = new AbortController();
  const scoped = scopedSignal(source.signal);
  expect(getEventListeners(source.signal, 'abort')).toHaveLength(1);
  scoped[Symbol.dispose]();
  expect(getEventListeners(source.signal, 'abort')).toHaveLength(0);
  source.abort();
  expect(scoped.signal.aborted).toBe(false);
});
