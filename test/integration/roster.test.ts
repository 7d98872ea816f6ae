import { beforeEach, expect, test } from 'vitest';
import { Roster } from '../../src/app/roster.ts';
import { type FoundHost, type HostAnswer, hostsUnknown } from '../../src/domain/discovery.ts';
import type { DiscoverySpec, PoolSpec } from '../../src/domain/model.ts';
import type { HostDirectory } from '../../src/ports/host-directory.ts';
import { appFixture, effect } from '../unit/app/app-fixture.ts';

const REFRESH_MS = 60_000;
const lb = (n: number): FoundHost => ({ name: `10.0.0.${n}`, address: `10.0.0.${n}`, port: 22 });
const byName = (name: string): DiscoverySpec => ({
  kind: 'dns',
  name,
  port: 22,
  resolvers: undefined,
  refreshMs: REFRESH_MS,
});
const pool = (discovery: DiscoverySpec): PoolSpec => ({
  name: 'lb',
  hosts: [],
  discovery,
  ssh: undefined,
  haproxy: { socket: '/admin.sock', masterSocket: undefined },
  verify: { connect: [], handshakes: 1, timeoutMs: 1_000 },
  reload: undefined,
  parallel: 1,
  stopAfter: 1,
});

/** What the source says next. */
let says: () => HostAnswer;
const names = (...hosts: readonly FoundHost[]) => {
  says = () => ({ hosts, doubts: [] });
};
const fails = (reason = 'SERVFAIL') => {
  says = () => {
    throw hostsUnknown(byName('hosts.test'), reason, 'correct the records');
  };
};
const directory: HostDirectory = { hosts: async () => says() };

let app: Awaited<ReturnType<typeof appFixture>>;
let changes: number;
beforeEach(async () => {
  app = await appFixture();
  changes = 0;
});

/** As a process has it that was just started. */
function started(source = byName('hosts.test'), { store } = app.deps) {
  const roster = new Roster({ pools: { lb: pool(source) } }, { ...app.deps, store, directory }, () => {
    changes += 1;
  });
  const [discovered] = roster.discovered;
  if (discovered === undefined) throw new Error('the pool is discovered');
  return {
    roster,
    hosts: () => roster.hostsOf(discovered).map(({ name }) => name),
    look: ({ signal }: { signal: AbortSignal }) => roster.look(discovered, effect(signal)),
    glance: ({ signal }: { signal: AbortSignal }) => roster.look(discovered, { signal, mandate: undefined }),
  };
}

test('a host goes when two answers a refresh apart lack it', async ({ signal }) => {
  const { roster, hosts, look } = started();
  names(lb(1), lb(2));
  await look({ signal });
  expect(changes).toBe(1);
  names(lb(1));
  await look({ signal });
  await look({ signal });
  expect(hosts()).toEqual(['10.0.0.1', '10.0.0.2']);
  expect(roster.statuses()).toMatchObject([{ hosts: 2, missing: ['10.0.0.2'] }]);
  app.advance(REFRESH_MS);
  await look({ signal });
  expect(hosts()).toEqual(['10.0.0.1']);
  expect(changes).toBe(2);
});

test('a failure between two answers neither takes away nor saves', async ({ signal }) => {
  const { hosts, look } = started();
  for (const next of [() => names(lb(1), lb(2)), () => names(lb(1)), () => fails()]) {
    next();
    await look({ signal });
    app.advance(REFRESH_MS);
  }
  expect(hosts()).toEqual(['10.0.0.1', '10.0.0.2']);
  names(lb(1));
  await look({ signal });
  expect(hosts()).toEqual(['10.0.0.1']);
});

test('a failure is logged once, and again when it is another one', async ({ signal }) => {
  const { roster, look } = started();
  for (const reason of ['SERVFAIL', 'SERVFAIL', 'REFUSED']) {
    fails(reason);
    await look({ signal });
  }
  const warnings = app
    .logged()
    .filter(({ msg, level }) => level === 40 && /cannot be learned/.test(`${msg}`));
  expect(warnings).toHaveLength(2);
  expect(roster.statuses()).toMatchObject([
    { hosts: 0, failure: { code: 'ERR_HOSTS_UNKNOWN', message: expect.stringContaining('REFUSED') } },
  ]);
});

test('the hosts last known outlive the process, and so does the answer that lacked one', async ({
  signal,
}) => {
  names(lb(1), lb(2));
  const first = started();
  await first.look({ signal });
  names(lb(1));
  await first.look({ signal });
  app.advance(REFRESH_MS);

  const second = started(undefined, await app.restarted());
  fails();
  await second.look({ signal });
  expect(second.hosts()).toEqual(['10.0.0.1', '10.0.0.2']);
  names(lb(1));
  await second.look({ signal });
  expect(second.hosts()).toEqual(['10.0.0.1']);
});

test('those of another source are not taken for those of this one', async ({ signal }) => {
  names(lb(1));
  await started().look({ signal });
  const other = started(byName('other.test'));
  fails();
  await other.look({ signal });
  expect(other.hosts()).toEqual([]);
  names(lb(2));
  await other.look({ signal });
  const again = started(byName('other.test'));
  await again.roster.restore({ signal });
  expect(again.hosts()).toEqual(['10.0.0.2']);
});

test('nothing is stored without a mandate', async ({ signal }) => {
  names(lb(1));
  const { hosts, glance } = started();
  await glance({ signal });
  expect(hosts()).toEqual(['10.0.0.1']);
  expect(await app.deps.store.list('roster/', { signal })).toEqual([]);
});

test('what another configuration of the process has stored meanwhile does not keep this one from it', async ({
  signal,
}) => {
  const [former, present] = [started(), started()];
  names(lb(1));
  await former.look({ signal });
  await present.roster.restore({ signal });
  names(lb(1), lb(2));
  await former.look({ signal });
  await present.look({ signal });
  names(lb(1), lb(2), lb(3));
  await present.look({ signal });
  const restarted = started();
  await restarted.roster.restore({ signal });
  expect(restarted.hosts()).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
});

test('a damaged record is as none, and is replaced by the next answer', async ({ signal }) => {
  await app.deps.store.transact(
    { conditions: [], puts: [{ key: 'roster/lb', value: '{"schema":1,"data":{}}' }], deletes: [] },
    effect(signal),
  );
  const { hosts, look } = started();
  names(lb(1));
  await look({ signal });
  expect(hosts()).toEqual(['10.0.0.1']);
  expect(app.logged()).toContainEqual(
    expect.objectContaining({ msg: 'the hosts last known cannot be read', level: 50 }),
  );
  const restarted = started();
  await restarted.roster.restore({ signal });
  expect(restarted.hosts()).toEqual(['10.0.0.1']);
});

test('every source is asked once for a command, however many ask', async ({ signal }) => {
  let asked = 0;
  says = () => {
    asked += 1;
    return { hosts: [lb(1)], doubts: [] };
  };
  const { roster } = started();
  await Promise.all([roster.ensure(effect(signal)), roster.ensure(effect(signal))]);
  await roster.ensure(effect(signal));
  expect(asked).toBe(1);
});
