import { expect, test } from 'vitest';
import { ConnectBudget } from '../../../src/ssh/connect-budget.ts';
import { LoginTurns } from '../../../src/ssh/login-turns.ts';

const { signal } = new AbortController();

/** Tasks that run until they are let go, and how many ran at once. */
class Tasks {
  running = 0;
  most = 0;
  readonly #done: (() => void)[] = [];

  readonly task = async (): Promise<void> => {
    this.running += 1;
    this.most = Math.max(this.most, this.running);
    await new Promise<void>((resolve) => this.#done.push(resolve));
    this.running -= 1;
  };

  async finish(all: readonly Promise<unknown>[]): Promise<void> {
    const ended = Promise.all(all);
    let open = true;
    void ended.then(() => {
      open = false;
    });
    while (open) {
      for (const done of this.#done.splice(0)) done();
      await Promise.resolve();
    }
  }
}

test('of a thousand logins sixty-four are under way at once, and all have their turn', async () => {
  const turns = new LoginTurns();
  const tasks = new Tasks();
  await tasks.finish(Array.from({ length: 1_000 }, () => turns.logIn(tasks.task, { signal })));
  expect(tasks).toMatchObject({ running: 0, most: 64 });
});

test('at one sshd four are under way, whatever happens at others', async () => {
  const turns = new LoginTurns();
  const [here, there] = [new Tasks(), new Tasks()];
  const asked = Array.from({ length: 10 }, () => [
    turns.atSshd('here', here.task, { signal }),
    turns.atSshd('there', there.task, { signal }),
  ]).flat();
  const both = [here.finish(asked), there.finish(asked)];
  await Promise.all(both);
  expect([here.most, there.most]).toEqual([4, 4]);
});

test('whoever gives up while waiting has not run, and holds up nobody', async () => {
  const turns = new LoginTurns();
  const tasks = new Tasks();
  const four = Array.from({ length: 4 }, () => turns.atSshd('one', tasks.task, { signal }));
  const caller = new AbortController();
  const fifth = turns.atSshd('one', tasks.task, caller);
  caller.abort(new Error('enough'));
  await expect(fifth).rejects.toThrow('enough');
  await tasks.finish(four);
  await tasks.finish([turns.atSshd('one', tasks.task, { signal })]);
  expect(tasks).toMatchObject({ running: 0, most: 4 });
});

test('waiting for a turn is not charged to the time for a connection', async () => {
  let nowMs = 0;
  const clock = { now: () => new Date(), monotonicMs: () => nowMs, sleep: async () => {} };
  const budget = new ConnectBudget(1_000, clock);
  const take = (ms: number) =>
    budget.spend(async (leftMs) => {
      nowMs += ms;
      return leftMs;
    });
  expect(await take(300)).toBe(1_000);
  nowMs += 60_000;
  expect(await take(600)).toBe(700);
  expect(budget.leftMs).toBe(100);
  await take(600);
  expect(budget.leftMs).toBe(1);
});
