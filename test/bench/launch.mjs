import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ensureAll, launch } from '../setup/ensure.mjs';

/** `npm run bench`: set-up, a build of the bench and one of kacme, then the measurements. docs/benchmarks.md */

const bench = fileURLToPath(new URL('./main.ts', import.meta.url));
const stop = new AbortController();
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(name, () => {
    // The second one does not wait: every server dies with this process (setpriv(1), --pdeathsig).
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
  });
}

await launch(async () => {
  await ensureAll();
  // Everything of this run lies here, so that what it leaves behind can be seen and removed.
  const scratch = mkdtempSync(join(tmpdir(), 'kacme-bench-'));
  process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
  // The lab's unprivileged account passes through it.
  await chmod(scratch, 0o711);
  process.env['TMPDIR'] = scratch;

  // Only now: esbuild is one of the packages that the set-up brings.
  const { bundle } = await import('../../build.mjs');
  const { command } = await bundle({ outdir: join(scratch, 'kacme') });
  const simulation = fileURLToPath(new URL('./simulation/simulator.ts', import.meta.url));
  const { command: simulator } = await bundle({ entry: simulation, outdir: join(scratch, 'simulator') });
  const delays = fileURLToPath(new URL('./simulation/delayer.ts', import.meta.url));
  const { command: delayer } = await bundle({ entry: delays, outdir: join(scratch, 'delayer') });
  const { command: entry } = await bundle({ entry: bench, outdir: join(scratch, 'bench') });
  const { main } = await import(pathToFileURL(entry).href);
  /** @type {number} */
  const status = await main(process.argv.slice(2), { command, simulator, delayer, signal: stop.signal });
  const left = readdirSync(scratch).filter((name) => name.startsWith('kacme-'));
  if (left.length === 0) return status;
  process.stderr.write(`the bench left ${left.length} scratch directories behind: ${left.join(' ')}\n`);
  return 1;
});
