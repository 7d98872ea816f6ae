import { onTestFinished } from 'vitest';
import { FileStateStore } from '../../src/store/file-store.ts';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { heldMandate } from '../support/mandate.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { realClock as clock } from './real-clock.ts';
import { describeStateStore } from './state-store.contract.ts';

describeStateStore('file store', async () => {
  const scratch = await scratchDirectory();
  const root = scratch.path;
  const { signal } = new AbortController();
  const opened: FileStateStore[] = [];
  const open = async () => {
    const store = await FileStateStore.open(root, { clock });
    opened.push(store);
    return store;
  };
  const leadership = new SocketLeadership(root, { clock, command: 'test' });
  const acquire = async () => {
    const mandate = await leadership.tryAcquire({ signal });
    if (mandate === undefined) throw new Error('the lock of a new store is not free');
    return mandate;
  };
  let mandate = await acquire();
  onTestFinished(async () => {
    await Promise.all(opened.map((store) => store.close()));
    await mandate.release();
    await scratch.remove();
  });
  const store = await open();
  return {
    store,
    mandate,
    another: open,
    reopen: async () => {
      await store.close();
      return await open();
    },
    deposed: async () => {
      const { epoch } = mandate;
      await mandate.release();
      mandate = await acquire();
      return heldMandate(epoch);
    },
  };
});
