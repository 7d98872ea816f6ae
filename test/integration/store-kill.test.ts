import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Entry } from '../../src/ports/state-store.ts';
import { FileStateStore } from '../../src/store/file-store.ts';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { realClock as clock } from '../contract/real-clock.ts';
import { eventually } from '../support/eventually.ts';
import { type RunningProcess, startProcess } from '../support/process.ts';
import { type ScratchDirectory, scratchDirectory } from '../support/scratch.ts';

let program: string;

beforeAll(async () => {
  const scratch = await scratchDirectory();
  program = join(scratch.path, 'child.mjs');
  await build({
    entryPoints: [fileURLToPath(new URL('./store-child.ts', import.meta.url))],
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    outfile: program,
    logLevel: 'error',
  });
  return () => scratch.remove();
});

async function scratchForTest(): Promise<ScratchDirectory> {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  return scratch;
}

async function startChild(...args: readonly string[]): Promise<RunningProcess> {
  const child = await startProcess({
    name: `store child (${args[0]})`,
    command: process.execPath,
    args: [program, ...args],
    env: {},
    ready: (output) => output.includes('ready'),
  });
  onTestFinished(() => child.stop());
  return child;
}

async function kill(child: RunningProcess): Promise<void> {
  child.signal('SIGKILL');
  await child.exited;
}

interface Testimony {
  readonly epoch: number;
  readonly pid: number;
  readonly id: string;
}

function linesOf(path: string): readonly string[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
}

function testimonies(witness: string): readonly Testimony[] {
  return linesOf(witness).map((line) => {
    const [epoch, pid, id = ''] = line.split(' ');
    return { epoch: Number(epoch), pid: Number(pid), id };
  });
}

/** Throws if there is half of one of the counter's transactions; gives the last one's number. */
function assertWhole(entries: readonly Entry[]): number {
  const numbers = (side: string) => [
    ...new Set(entries.filter(({ key }) => key.startsWith(side)).map(({ value }) => Number(value.trim()))),
  ];
  const sides = [...numbers('even/'), ...numbers('odd/')];
  const n = Math.max(0, ...sides);
  expect(sides.sort((a, b) => a - b)).toEqual([n - 1, n].filter((number) => number > 0));
  expect(entries.find(({ key }) => key === 'token')?.value).toBe(n % 2 === 1 ? String(n) : undefined);
  return n;
}

test('never two lead at once, however they are killed', { timeout: 60_000 }, async () => {
  const { path } = await scratchForTest();
  const root = join(path, 'store');
  const witness = join(path, 'witness');
  const start = () => startChild('contend', root, witness);
  const contenders = await Promise.all(Array.from({ length: 5 }, start));
  const last = () => testimonies(witness).at(-1);

  for (let round = 0; round < 16; round += 1) {
    const before = last()?.epoch ?? 0;
    const leader = await eventually('somebody new leads', () => {
      const present = last();
      return present !== undefined && present.epoch > before ? present : undefined;
    });
    // Mostly the leader, now and then one that is waiting or just about to take over.
    const victim =
      round % 5 === 4 ? round % contenders.length : contenders.findIndex(({ pid }) => pid === leader.pid);
    const killed = contenders[victim];
    if (killed === undefined) throw new Error(`an unknown process ${leader.pid} leads`);
    await kill(killed);
    contenders[victim] = await start();
  }
  await Promise.all(contenders.map(kill));

  const said = testimonies(witness);
  const epochs = said.map(({ epoch }) => epoch);
  // Whoever speaks after a newer leader has spoken leads at the same time as that one.
  expect(epochs.filter((epoch, i) => i > 0 && epoch < (epochs[i - 1] ?? 0))).toEqual([]);
  const speakers = new Map<number, Set<string>>();
  for (const { epoch, id } of said) speakers.set(epoch, (speakers.get(epoch) ?? new Set()).add(id));
  expect([...speakers.values()].filter((ids) => ids.size > 1)).toEqual([]);
  expect(speakers.size).toBeGreaterThan(16);
  const left = await readdir(join(root, 'lock'));
  expect(left.length).toBeLessThan(20);
});

test('a frozen leader still leads, a killed one is followed at once', async ({ signal }) => {
  const { path } = await scratchForTest();
  const leader = await startChild('count', path, join(path, 'done'));
  const leadership = new SocketLeadership(path, { clock, command: 'test' });

  leader.signal('SIGSTOP');
  expect(await leadership.tryAcquire({ signal })).toBeUndefined();
  expect(await leadership.holder({ signal })).toMatch(/does not answer/);
  leader.signal('SIGCONT');
  expect(await leadership.holder({ signal })).toMatch(/^counter \(pid \d+ on /);

  const campaign = leadership.campaign({ signal });
  await kill(leader);
  const mandate = await campaign;
  onTestFinished(() => mandate.release());
  expect(mandate.epoch).toBe(2);
});

test('a killed writer leaves whole transactions, acknowledged ones all there', {
  timeout: 60_000,
}, async ({ signal }) => {
  const { path } = await scratchForTest();
  const root = join(path, 'store');
  const done = join(path, 'done');
  let acknowledged = 0;
  for (let round = 0; round < 16; round += 1) {
    const writer = await startChild('count', root, done);
    const before = linesOf(done).length;
    await eventually('it has written', () => linesOf(done).length > before);
    // At a random moment of a transaction: one takes some milliseconds.
    await setTimeout(Math.random() * 30);
    await kill(writer);
    acknowledged = Math.max(acknowledged, Number(linesOf(done).at(-1)));

    const reader = await FileStateStore.open(root, { clock, readOnly: true });
    const n = assertWhole(await reader.list('', { signal }));
    expect(n).toBeGreaterThanOrEqual(acknowledged);
    expect(n - acknowledged).toBeLessThanOrEqual(1);
    expect(await reader.check({ signal })).toEqual([]);
    await reader.close();
    acknowledged = n;
  }
  expect(await readdir(join(root, 'draft'))).toSatisfy((drafts: readonly string[]) => drafts.length < 10);
});

test('a reader in another process never sees half a transaction', async ({ signal }) => {
  const { path } = await scratchForTest();
  const root = join(path, 'store');
  const mandate = await new SocketLeadership(root, { clock, command: 'test' }).campaign({ signal });
  const store = await FileStateStore.open(root, { clock });
  // Make a look at all of it take longer than a transaction.
  const puts = Array.from({ length: 150 }, (_, i) => ({ key: `${i % 2 ? 'even' : 'odd'}-${i}`, value: '' }));
  await store.transact({ conditions: [], puts, deletes: [] }, { signal, mandate });
  await store.close();
  await mandate.release();

  const done = join(path, 'done');
  const writer = await startChild('count', root, done);
  const reader = await FileStateStore.open(root, { clock, readOnly: true });
  const seen: number[] = [];
  while (linesOf(done).length < 60) seen.push(assertWhole(await reader.list('', { signal })));
  await kill(writer);
  await reader.close();
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(seen.at(-1)).toBeGreaterThan(0);
});
