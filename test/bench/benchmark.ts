/** What the targets of `fleet` are for. */
export const FLEET_HOSTS = 1_000;
/** What those of `fifty` and `delayed` are for: real ones. */
export const FIFTY_HOSTS = 50;

/** One number, measured several times. */
export interface Measure {
  /** Stable, for whoever compares JSON reports. */
  readonly name: string;
  readonly title: string;
  readonly unit: 'ms' | 'MB' | 'round trips' | 'handshakes' | 'requests';
  /** The median should not be above it; undefined where the number only explains another. */
  readonly target: number | undefined;
  readonly samples: readonly number[];
}

export interface BenchmarkOptions {
  readonly runs: number;
  /** Other than a benchmark of hosts takes of its own accord; it has no targets then. */
  readonly hosts: number | undefined;
  /** The kacme that is measured: the bundled build. */
  readonly command: string;
  /** A process with simulated hosts; see simulation/. */
  readonly simulator: string;
  /** A process with slow links to hosts; see simulation/. */
  readonly delayer: string;
  /** Directory for a CPU profile of every `kacme serve`; it slows them down a little. */
  readonly profiles: string | undefined;
  /** Progress, one line each. */
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Measures, with real servers where there are any to talk to, and throws when one of its runs did not do its work. */
export interface Benchmark {
  readonly name: string;
  readonly about: string;
  run(options: BenchmarkOptions): Promise<readonly Measure[]>;
}

/** Throws unless a run did what it is measured for. */
export function assertWork(done: boolean, what: string): asserts done {
  if (!done) throw new Error(`a run did not do its work: ${what}`);
}
