import { describe, expect, onTestFinished, test } from 'vitest';
import type { Leadership, Mandate } from '../../src/ports/leadership.ts';

export interface LeadershipHarness {
  /** A contender of its own for the same lock, as each process has one. */
  contender(): Promise<Leadership>;
}

/** What every `Leadership` must do. `open` starts where nobody ever led and cleans up with `onTestFinished`. */
export function describeLeadership(name: string, open: () => Promise<LeadershipHarness>): void {
  async function acquire(contender: Leadership, signal: AbortSignal): Promise<Mandate> {
    const mandate = await contender.tryAcquire({ signal });
    if (mandate === undefined) throw new Error('somebody else leads');
    onTestFinished(() => mandate.release());
    return mandate;
  }

  describe(name, () => {
    test('one contender leads, the other learns who does', async ({ signal }) => {
      const { contender } = await open();
      const [one, other] = [await contender(), await contender()];
      expect(await other.holder({ signal })).toBeUndefined();
      const mandate = await acquire(one, signal);
      mandate.assertHeld();
      expect(mandate.signal.aborted).toBe(false);
      expect(await other.tryAcquire({ signal })).toBeUndefined();
      expect(await other.holder({ signal })).toContain(`pid ${process.pid}`);
    });

    test('the same contender does not get it twice', async ({ signal }) => {
      const { contender } = await open();
      const one = await contender();
      await acquire(one, signal);
      expect(await one.tryAcquire({ signal })).toBeUndefined();
    });

    test('epochs grow with every new holder', async ({ signal }) => {
      const { contender } = await open();
      const epochs: number[] = [];
      for (let i = 0; i < 12; i += 1) {
        const mandate = await acquire(await contender(), signal);
        epochs.push(mandate.epoch);
        await mandate.release();
      }
      expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => a - b));
    });

    test('a mandate that was given back is lost, however often it is given back', async ({ signal }) => {
      const { contender } = await open();
      const one = await contender();
      const mandate = await acquire(one, signal);
      await Promise.all([mandate.release(), mandate.release()]);
      await mandate.release();
      expect(() => mandate.assertHeld()).toThrowError(expect.objectContaining({ code: 'ERR_MANDATE_LOST' }));
      expect(mandate.signal.reason).toMatchObject({ code: 'ERR_MANDATE_LOST' });
      expect(await one.holder({ signal })).toBeUndefined();
    });

    test('of many contenders at once exactly one leads', async ({ signal }) => {
      const { contender } = await open();
      const contenders = await Promise.all(Array.from({ length: 16 }, () => contender()));
      for (let round = 0; round < 3; round += 1) {
        const mandates = await Promise.all(contenders.map((each) => each.tryAcquire({ signal })));
        const held = mandates.filter((mandate) => mandate !== undefined);
        expect(held).toHaveLength(1);
        for (const mandate of held) {
          mandate.assertHeld();
          await mandate.release();
        }
      }
    });

    test('campaigning contenders lead one after the other, as soon as it is free', async ({ signal }) => {
      const { contender } = await open();
      const first = await acquire(await contender(), signal);
      const order: number[] = [];
      let leading = 0;
      const waiting = Array.from({ length: 4 }, async () => {
        const mandate = await (await contender()).campaign({ signal });
        leading += 1;
        expect(leading).toBe(1);
        order.push(mandate.epoch);
        leading -= 1;
        await mandate.release();
      });
      await first.release();
      await Promise.all(waiting);
      expect(order).toHaveLength(4);
      expect(order).toEqual([...order].sort((a, b) => a - b));
    });

    test('a campaign ends with the reason it was aborted for', async ({ signal }) => {
      const { contender } = await open();
      await acquire(await contender(), signal);
      const stop = new AbortController();
      const campaign = (await contender()).campaign({ signal: stop.signal });
      const reason = new Error('SIGTERM');
      stop.abort(reason);
      await expect(campaign).rejects.toBe(reason);
    });
  });
}
