import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { renderLogLine } from '../../src/cli/human-log.ts';
import { labDirectory } from '../setup/lab.mjs';
import { thingsToTry } from './farewell.ts';
import { firstCertificates } from './first-certificates.ts';
import { Narrator } from './narrator.ts';
import { renewals } from './renewals.ts';
import type { Scene } from './scene.ts';
import { setTheScene } from './setting.ts';
import { reasonsOf, Unexpected } from './unexpected.ts';

/** Started by launch.mjs in `directory`, its own. Arguments: the bundled kacme, then options. */
const [command = '', ...flags] = process.argv.slice(2);
const directory = tmpdir();

const interruption = new AbortController();
const { signal } = interruption;
const interrupt = () => interruption.abort(new DOMException('interrupted', 'AbortError'));
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt);
// Whoever read it has gone: nobody is left to tell.
process.stdout.on('error', interrupt);

const narrator = new Narrator({ output: process.stdout, env: process.env, signal });
const stops: (() => Promise<void>)[] = [];
const outputs = new Map<string, () => string>();
let scene: Scene | undefined;
/** Every step is done: from now on an interruption is how the demo is meant to end. */
let complete = false;

process.exitCode = await main();

async function main(): Promise<number> {
  narrator.title('kacme: from hosts without a certificate to renewals that nobody notices');
  narrator.say(`Real servers on this machine alone, all in ${directory} until the demo ends.`);
  let status = 0;
  try {
    scene = await setTheScene({
      narrator,
      directory,
      command,
      signal,
      onStop: (stop) => stops.push(stop),
      onOutput: (name, output) => outputs.set(name, output),
    });
    await renewals(scene, await firstCertificates(scene));
    await showStatus(scene);
    if (flags.includes('--once')) await stopService(scene);
    else await stayUp(scene);
  } catch (error) {
    status = await explain(error);
  }
  const stopped = await stopAll();
  if (!stopped || status === 1) return 1;
  // launch.mjs does this too, unless it was killed.
  await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  narrator.say(
    `Everything is stopped and ${directory} removed. What stays, and may be deleted: node_modules and dist here, ` +
      `Debian's unpacked servers in ${labDirectory()}.`,
  );
  return status;
}

async function showStatus({ narrator, kacme, handshakes }: Scene): Promise<void> {
  narrator.step('How it stands in the end');
  narrator.command('kacme status');
  const status = await kacme.runInView('status');
  if (status !== 0) throw new Unexpected(`kacme status ended with exit status ${status}: not all is well`);
  narrator.blank();
  narrator.title(`Every step was verified, with ${handshakes.count} TLS handshakes of the demo's own.`);
}

async function stayUp(scene: Scene): Promise<void> {
  narrator.blank();
  narrator.say('All of it stays up until Ctrl-C. From another terminal, in this directory:');
  for (const [purpose, line] of thingsToTry(scene)) {
    narrator.say(purpose);
    narrator.show(line);
  }
  complete = true;
  const interrupted = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined));
  });
  const end = await Promise.race([interrupted, scene.kacme.ended()]);
  if (end !== undefined) throw new Unexpected(`kacme serve ended by itself: ${end}`);
  narrator.blank();
  await scene.kacme.stop();
}

async function stopService({ kacme }: Scene): Promise<void> {
  narrator.blank();
  await narrator.check('kacme serve stops cleanly on SIGTERM', () => kacme.stop());
}

/** Says what went wrong, and resolves to the exit status. */
async function explain(error: unknown): Promise<number> {
  if (signal.aborted && !complete) {
    narrator.blank();
    narrator.say('Interrupted: stopping everything.');
    return 130;
  }
  narrator.failure(reasonsOf(error).map((reason, i) => [i === 0 ? 'seen instead' : 'because', reason]));
  const tail = (await scene?.kacme.logTail(12)) ?? [];
  if (tail.length > 0) {
    narrator.say("The end of kacme's log:");
    const plain = { colour: false, columns: undefined };
    narrator.show(tail.map((line) => renderLogLine(line, plain).trimEnd()).join('\n'));
  }
  const kept = join(directory, 'failed');
  await keepLogs(kept);
  narrator.say(`All logs are kept in ${kept}`);
  return 1;
}

async function keepLogs(kept: string): Promise<void> {
  await rename(join(directory, 'logs'), kept).catch(() => mkdir(kept));
  for (const [name, output] of outputs) await writeFile(join(kept, `${name}.log`), output());
}

/** Last in, first out; one that fails is told and does not keep the others from being stopped. */
async function stopAll(): Promise<boolean> {
  let stopped = true;
  for (const stop of stops.reverse()) {
    try {
      await stop();
    } catch (error) {
      stopped = false;
      narrator.failure([['could not', reasonsOf(error).join(': ')]]);
    }
  }
  return stopped;
}
