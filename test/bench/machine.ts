import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { spreadOf } from './statistics.ts';

const FSYNCS = 50;

/** What the figures depend on. */
export async function describeMachine(): Promise<string> {
  const processors = cpus();
  const model = processors[0]?.model.trim() ?? 'unknown processor';
  return [
    `Node ${process.versions.node}`,
    `${processors.length} x ${model}`,
    `${Math.round(totalmem() / 2 ** 30)} GB`,
    `Linux ${release()}`,
    `fsync ${(await fsyncMs()).toFixed(1)} ms`,
  ].join(', ');
}

/** The load averages of 1, 5 and 15 minutes (proc(5)): figures of a busy machine tell little. */
export async function loadAverage(): Promise<string> {
  return (await readFile('/proc/loadavg', 'utf8')).split(' ').slice(0, 3).join(' ');
}

/** Median of writing and syncing a small file where the stores of the bench lie: each transaction costs some. */
async function fsyncMs(): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'fsync-'));
  try {
    await using file = await open(join(directory, 'probe'), 'wx');
    const samples: number[] = [];
    for (let i = 0; i < FSYNCS; i++) {
      await file.write(Buffer.alloc(4_096), 0, 4_096, 0);
      const startMs = performance.now();
      await file.sync();
      samples.push(performance.now() - startMs);
    }
    return spreadOf(samples).median;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
