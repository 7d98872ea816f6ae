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

/**
 * Transaction n moves the four keys of `even/` or `odd/` to n, and makes or removes `token`. Notes each n in
 * `done` once it is acknowledged.
 */
async function count(root: string, done: string): Promise<never> {
  const mandate = await new SocketLeadership(root, { clock, command: 'counter' }).campaign({ signal });
  const store = await FileStateStore.open(root, { clock });
  writeSync(STDOUT, 'ready\n');
  const entries = [...(await store.list('even/', { signal })), ...(await store.list('odd/', { signal }))];
  for (let n = Math.max(0, ...entries.map(({ value }) => Number(value.trim()))) + 1; ; n += 1) {
    const side = n % 2 === 0 ? 'even' : 'odd';
    // The sizes differ, so that the writes do not all take the same time.
    const puts = ['a', 'b/c', 'd', 'e/f'].map((key, i) => ({
      key: `${side}/${key}`,
      value: `${n}${' '.repeat(i * 20_000)}`,
    }));
    const token = { key: 'token', value: String(n) };
    await store.transact(
      side === 'odd'
        ? { conditions: [{ key: 'token', revision: 0 }], puts: [...puts, token], deletes: [] }
        : { conditions: [], puts, deletes: ['token'] },
      { signal, mandate },
    );
    appendFileSync(done, `${n}\n`);
  }
}

const [mode, root = '', notes = ''] = process.argv.slice(2);
await (mode === 'count' ? count(root, notes) : contend(root, notes));
