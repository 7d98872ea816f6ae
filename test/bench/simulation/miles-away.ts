export interface LinkQuality {
  /** From one end to the other: half a round trip. */
  readonly wayMs: number;
  /** Of each segment. */
  readonly loss: number;
  /** How much later a lost segment, and all behind it, arrives: TCP's smallest retransmission time on Linux. */
  readonly stallMs: number;
}

/** Bytes of a TCP segment on Ethernet, with timestamps. */
const SEGMENT_BYTES = 1_448;

/** One direction of a connection: all that is sent arrives in order, later. */
export class MilesAway {
  readonly #quality: LinkQuality;
  /** By the clock of `performance.now()`: nothing arrives before. */
  #clearAtMs: number;

  constructor(quality: LinkQuality, firstAfterMs: number) {
    this.#quality = quality;
    this.#clearAtMs = performance.now() + firstAfterMs;
  }

  /** Calls `arrive` when the last of so many bytes arrives. */
  send(bytes: number, arrive: () => void): void {
    const { wayMs, loss, stallMs } = this.#quality;
    const now = performance.now();
    const segments = Math.max(1, Math.ceil(bytes / SEGMENT_BYTES));
    const stalled = Math.random() >= (1 - loss) ** segments;
    this.#clearAtMs = Math.max(this.#clearAtMs, now + wayMs + (stalled ? stallMs : 0));
    // Timers of one moment fire in the order in which they were set.
    setTimeout(arrive, this.#clearAtMs - now);
  }
}
