import { randomUUID } from 'node:crypto';
import { appendFileSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { FileStateStore } from '../../src/store/file-store.ts';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { realClock as clock } from '../contract/real-clock.ts';

const STDOUT = 1;
const { signal } = new AbortController();

/** Leads again and again; as long as it does, it says so in the witness, which all contenders share. */
async function contend(root: string, witness: string): Promise<never> {
  const id = randomUUID();
  const leadership = new SocketLeadership(root, { clock, command: 'contender' });
  writeSync(STDOUT, 'ready\n');
  for (;;) {
    const mandate = await leadership.campaign({ signal });
    for (let i = 0; i < 200; i += 1) {
      mandate.assertHeld();
      appendFileSync(witness, `${mandate.epoch} ${process.pid} ${id}\n`);
      await setImmediate();
    }
    await mandate.release();
  }
}

/** Moves every key of `pair/` to the next number in one transaction; notes each number in `done` once it is acknowledged. */
async function count(root: string, done: string): Promise<never> {
  const mandate = await new SocketLeadership(root, { clock, command: 'counter' }).campaign({ signal });
  const store = await FileStateStore.open(root, { clock });
  writeSync(STDOUT, 'ready\n');
  const entries = await store.list('pair/', { signal });
  for (let n = Number(entries[0]?.value.trim() ?? 0) + 1; ; n += 1) {
    // The sizes differ, so that the writes do not all take the same time.
    const puts = ['a', 'b/c', 'd', 'e/f'].map((key, i) => ({
      key: `pair/${key}`,
      value: `${n}${' '.repeat(i * 20_000)}`,
    }));
    const odd = { key: 'odd', value: String(n) };
    await store.transact(
      n % 2 === 1
        ? { conditions: [{ key: 'odd', revision: 0 }], puts: [...puts, odd], deletes: [] }
        : { conditions: [], puts, deletes: ['odd'] },
      { signal, mandate },
    );
    appendFileSync(done, `${n}\n`);
  }
}

const [mode, root = '', notes = ''] = process.argv.slice(2);
await (mode === 'count' ? count(root, notes) : contend(root, notes));
