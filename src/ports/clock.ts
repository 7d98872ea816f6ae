export interface Clock {
  /** Wall clock, for dates that others see. */
  now(): Date;
  /** Never goes back; milliseconds since an arbitrary moment, for durations and deadlines. */
  monotonicMs(): number;
  /** Resolves after `ms` (at most an hour: decide again after that), rejects with `signal.reason` when aborted. */
  sleep(ms: number, options: { signal: AbortSignal }): Promise<void>;
}

export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
}
