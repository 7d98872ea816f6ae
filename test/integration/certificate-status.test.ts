import { expect, test } from 'vitest';
import { Bundles } from '../../src/app/bundles.ts';
import { certificateRecord } from '../../src/app/records.ts';
import type { StateStore } from '../../src/ports/state-store.ts';
import { issuingParts } from '../support/issuing.ts';
import { testCa } from '../support/pem.ts';
import { appFixture, DAY_MS, effect, issuer, START, spec } from '../unit/app/app-fixture.ts';

test('tells the generation of the bundle that it tells, when another one becomes active meanwhile', async ({
  signal,
}) => {
  const { deps } = await appFixture();
  const { store } = deps;
  const ca = testCa();
  const elsewhere = new Bundles(3, deps);
  const activate = async () => {
    const made = ca.issue(['site.test'], {
      notBefore: START,
      notAfter: new Date(START.getTime() + 90 * DAY_MS),
    });
    await elsewhere.activate(
      spec(),
      { ...made, origin: 'acme', issuer: 'ca', reason: 'due' },
      {},
      effect(signal),
    );
    return made.fingerprint256;
  };
  await activate();
  const successors: string[] = [];
  const raced: StateStore = {
    get: async (key, options) => {
      const entry = await store.get(key, options);
      if (key === certificateRecord.key('site') && successors.length < 2) successors.push(await activate());
      return entry;
    },
    list: (prefix, options) => store.list(prefix, options),
    transact: (transaction, options) => store.transact(transaction, options),
    watch: (prefix, options) => store.watch(prefix, options),
    close: () => store.close(),
  };
  const { statuses } = issuingParts({ ca: issuer() }, { ...deps, store: raced }, () => {
    throw new Error('no CA is asked');
  });

  expect(await statuses.of(spec(), { signal })).toMatchObject({
    state: 'valid',
    generation: 3,
    fingerprint256: successors[1],
  });
});
