import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { Bundles } from '../../src/app/bundles.ts';
import { bundleRecord, listRecords } from '../../src/app/records.ts';
import type { KeyType } from '../../src/domain/model.ts';
import { readBundlePem } from '../../src/domain/x509.ts';
import type { EffectOptions } from '../../src/ports/leadership.ts';
import { type TestCertificate, testCa } from '../support/pem.ts';
import { appFixture, DAY_MS, effect, START, spec } from '../unit/app/app-fixture.ts';

const ca = testCa();

let app: Awaited<ReturnType<typeof appFixture>>;
beforeEach(async () => {
  app = await appFixture();
});

function issued(days = 90, names: readonly string[] = ['site.test']): TestCertificate {
  const now = app.deps.clock.now().getTime();
  return ca.issue(names, { notBefore: new Date(now), notAfter: new Date(now + days * DAY_MS) });
}

function activate(bundles: Bundles, { chainPem, keyPem }: TestCertificate, options: EffectOptions) {
  const made = { chainPem, keyPem, origin: 'acme', issuer: 'ca', reason: 'renewal due' } as const;
  return bundles.activate(spec(), made, {}, options);
}

async function storedIds(signal: AbortSignal): Promise<readonly string[]> {
  const records = await listRecords(app.deps.store, bundleRecord, ['site'], { signal });
  return records.map(({ value }) => value.id);
}

describe('activate', () => {
  test('makes the next generation each time, and remembers those before it', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    const [first, second] = [issued(), issued()];
    await activate(bundles, first, effect(signal));
    await activate(bundles, second, effect(signal));

    const record = (await bundles.record('site', { signal }))?.value;
    expect(record).toMatchObject({ generation: 2, active: second.fingerprint256 });
    expect(record?.lastSuccess).toBe(START.toISOString());
    expect(record?.history).toMatchObject([
      { generation: 1, fingerprint256: first.fingerprint256, state: 'superseded' },
      { generation: 2, fingerprint256: second.fingerprint256, state: 'active' },
    ]);
    const desired = await bundles.desired(spec(), { signal });
    expect(desired?.pem).toBe(second.bundlePem);
    expect(desired?.place.history).toContain(first.fingerprint256);
  });

  test('draws renewAt once, with a third of the lifetime left', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    await activate(bundles, issued(90), effect(signal));
    const renewAt = new Date(START.getTime() + 60 * DAY_MS);
    expect((await bundles.active('site', { signal }))?.renewAt).toBe(renewAt.toISOString());
    app.advance(10 * DAY_MS);
    expect((await bundles.active('site', { signal }))?.renewAt).toBe(renewAt.toISOString());
  });

  test.for([
    { keep: 0, left: 1 },
    { keep: 2, left: 3 },
  ])(
    'destroys the keys of all but $keep superseded bundles, not their fingerprints',
    async ({ keep, left }, { signal }) => {
      const bundles = new Bundles(keep, app.deps);
      const all = [issued(), issued(), issued(), issued(), issued()];
      for (const one of all) await activate(bundles, one, effect(signal));
      const kept = all.slice(-left).map(({ fingerprint256 }) => fingerprint256);
      expect([...(await storedIds(signal))].sort()).toEqual(kept.sort());
      const { history } = (await bundles.desired(spec(), { signal }))?.place ?? {};
      for (const { fingerprint256 } of all) expect(history).toContain(fingerprint256);
    },
  );

  test('forgets an expired bundle, with its key', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    const short = issued(5);
    await activate(bundles, short, effect(signal));
    app.advance(6 * DAY_MS);
    const next = issued(5);
    await activate(bundles, next, effect(signal));
    expect((await bundles.record('site', { signal }))?.value.history).toMatchObject([{ generation: 2 }]);
    expect(await storedIds(signal)).toEqual([next.fingerprint256]);
  });

  test('goes on beside a damaged superseded bundle, which it leaves where it is', async ({ signal }) => {
    const bundles = new Bundles(1, app.deps);
    const first = issued();
    await activate(bundles, first, effect(signal));
    await activate(bundles, issued(), effect(signal));
    const directory = join(app.directory, 'data', 'bundle', 'site');
    const names = await readdir(directory);
    const name = names.find((one) => one.startsWith(first.fingerprint256)) ?? '';
    const damaged = (await readFile(join(directory, name), 'utf8')).slice(0, -20);
    await writeFile(join(directory, name), damaged);

    const restarted = new Bundles(1, await app.restarted());
    const third = issued();
    await activate(restarted, third, effect(signal));
    expect((await restarted.active('site', { signal }))?.id).toBe(third.fingerprint256);
    expect(await readFile(join(directory, name), 'utf8')).toBe(damaged);
    expect(app.logged()).toContainEqual(
      expect.objectContaining({ msg: 'superseded bundle cannot be removed', certificate: 'site' }),
    );
  });

  test('is refused whole when a condition beside it does not hold', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    const { chainPem, keyPem } = issued();
    const made = { chainPem, keyPem, origin: 'acme', issuer: 'ca', reason: 'renewal due' } as const;
    const conditions = [{ key: 'order/site/ca', revision: 7 }];
    await expect(bundles.activate(spec(), made, { conditions }, effect(signal))).rejects.toMatchObject({
      code: 'ERR_STORE_CONFLICT',
    });
    expect(await bundles.record('site', { signal })).toBeUndefined();
    expect(await storedIds(signal)).toEqual([]);
  });

  test('the history of all is read once, however many certificates are asked for at the same moment', async ({
    signal,
  }) => {
    const specs = ['a', 'b', 'c', 'd'].map((name) => ({ ...spec([`${name}.test`]), name }));
    const former = new Bundles(3, app.deps);
    for (const one of specs) await former.ensureSelfSigned(one, effect(signal));
    const lists: string[] = [];
    const { store } = app.deps;
    const counting = Object.create(store, {
      list: {
        value: (prefix: string, options: { signal: AbortSignal }) => {
          lists.push(prefix);
          return store.list(prefix, options);
        },
      },
      get: { value: store.get.bind(store) },
    });

    const bundles = new Bundles(3, { ...app.deps, store: counting });
    const desired = await Promise.all(specs.map((one) => bundles.desired(one, { signal })));
    const own = desired.map((one) => one?.place.facts.fingerprint256 ?? '');
    expect([...(desired[0]?.place.history ?? [])]).toEqual(expect.arrayContaining(own));
    expect(lists).toEqual(['certificate/']);
  });

  test('hosts that look within a second are told the same, and of a new bundle at once', async ({
    signal,
  }) => {
    const { store } = app.deps;
    const read: string[] = [];
    const counting = Object.create(store, {
      get: {
        value: (key: string, options: { signal: AbortSignal }) => {
          read.push(key);
          return store.get(key, options);
        },
      },
      transact: { value: store.transact.bind(store) },
      list: { value: store.list.bind(store) },
    });
    const bundles = new Bundles(3, { ...app.deps, store: counting });
    const site = spec();
    const ask = async () => (await bundles.desired(site, { signal }))?.place.generation;
    await activate(bundles, issued(), effect(signal));
    expect(await ask()).toBe(1);
    read.length = 0;
    app.advance(999);
    expect(await ask()).toBe(1);
    expect(read).toEqual([]);
    app.advance(1);
    expect(await ask()).toBe(1);
    expect(read).toEqual(['certificate/site']);

    await activate(bundles, issued(), effect(signal));
    expect(await ask()).toBe(2);
  });

  test('never logs a key', async ({ signal }) => {
    await activate(new Bundles(3, app.deps), issued(), effect(signal));
    expect(JSON.stringify(app.logged())).not.toContain('PRIVATE KEY');
  });
});

describe('ensureSelfSigned', () => {
  test('makes a loadable bundle for every configured name, once', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    const names = spec(['site.test', 'www.site.test']);
    expect(await bundles.ensureSelfSigned(names, effect(signal))).toEqual({
      created: true,
      reason: 'none held',
    });
    expect(await bundles.ensureSelfSigned(names, effect(signal))).toMatchObject({ created: false });

    const desired = await bundles.desired(names, { signal });
    expect(readBundlePem(desired?.pem ?? '')).toMatchObject({
      state: 'loadable',
      facts: { selfSigned: true, identifiers: ['site.test', 'www.site.test'] },
    });
    expect(desired?.place.generation).toBe(1);
    const record = await bundles.record('site', { signal });
    expect(record?.value.lastSuccess).toBeUndefined();
  });

  test.for([
    {
      when: 'it is about to expire',
      afterMs: 61 * DAY_MS,
      names: ['site.test'],
      reason: 'the self-signed bundle is about to expire',
    },
    {
      when: 'a name was added',
      afterMs: 0,
      names: ['site.test', 'new.test'],
      reason: 'the self-signed bundle does not cover new.test',
    },
  ])('makes another one when $when', async ({ afterMs, names, reason }, { signal }) => {
    const bundles = new Bundles(3, app.deps);
    await bundles.ensureSelfSigned(spec(), effect(signal));
    app.advance(afterMs);
    expect(await bundles.ensureSelfSigned(spec(names), effect(signal))).toEqual({ created: true, reason });
    expect((await bundles.desired(spec(names), { signal }))?.place.generation).toBe(2);
  });

  test('never replaces a bundle of a CA, not even an expired one', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    await activate(bundles, issued(5), effect(signal));
    app.advance(6 * DAY_MS);
    expect(await bundles.ensureSelfSigned(spec(), effect(signal))).toMatchObject({ created: false });
    expect((await bundles.active('site', { signal }))?.origin).toBe('acme');
  });
});

describe('what others may do meanwhile', () => {
  test('a self-signed bundle never replaces one that came while its key was made', async ({ signal }) => {
    const better = issued();
    const other = new Bundles(3, app.deps);
    const slowPki = {
      ...app.deps.pki,
      generateKey: async (type: KeyType) => {
        await activate(other, better, effect(signal));
        return app.deps.pki.generateKey(type);
      },
    };
    const bundles = new Bundles(3, { ...app.deps, pki: slowPki });
    expect(await bundles.ensureSelfSigned(spec(), effect(signal))).toMatchObject({ created: false });
    expect((await bundles.record('site', { signal }))?.value).toMatchObject({
      generation: 1,
      active: better.fingerprint256,
    });
  });

  test('a bundle that was taken out of the store counts as none', async ({ signal }) => {
    const bundles = new Bundles(3, app.deps);
    const lost = issued();
    await activate(bundles, lost, effect(signal));
    const key = bundleRecord.key('site', lost.fingerprint256);
    await app.deps.store.transact({ conditions: [], puts: [], deletes: [key] }, effect(signal));
    expect(await bundles.active('site', { signal })).toBeUndefined();
    expect(await new Bundles(3, app.deps).desired(spec(), { signal })).toBeUndefined();
    await activate(bundles, issued(), effect(signal));
    expect((await bundles.record('site', { signal }))?.value.generation).toBe(2);
  });

  test('knows as its own what it had under another name, before and after it was issued', async ({
    signal,
  }) => {
    const renamed = { ...spec(), name: 'renamed' };
    const former = issued();
    await activate(new Bundles(3, app.deps), former, effect(signal));
    const bundles = new Bundles(3, app.deps);
    const present = issued();
    const made = {
      chainPem: present.chainPem,
      keyPem: present.keyPem,
      origin: 'acme',
      issuer: 'ca',
      reason: 'test',
    } as const;
    await bundles.activate(renamed, made, {}, effect(signal));
    const desired = await bundles.desired(renamed, { signal });
    expect(desired?.place.history).toContain(former.fingerprint256);
    expect(desired?.place.history).toContain(present.fingerprint256);
  });
});
