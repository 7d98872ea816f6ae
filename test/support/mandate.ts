import { KacmeError } from '../../src/domain/errors.ts';
import type { Mandate } from '../../src/ports/leadership.ts';

export interface HeldMandate extends Mandate {
  /** From now on it is lost: `assertHeld` throws and the signal aborts. */
  lose(): void;
}

/** A mandate that is held until the test says otherwise. */
export function heldMandate(epoch = 1): HeldMandate {
  const controller = new AbortController();
  const lose = () =>
    controller.abort(
      new KacmeError('ERR_MANDATE_LOST', 'the mandate was lost because the test said so', { retry: 'later' }),
    );
  return {
    epoch,
    deadlineMs: Number.POSITIVE_INFINITY,
    signal: controller.signal,
    assertHeld: () => controller.signal.throwIfAborted(),
    release: async () => lose(),
    lose,
  };
}
