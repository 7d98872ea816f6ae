import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { scratchDirectory } from '../support/scratch.ts';

const LAUNCHER = join(import.meta.dirname, '..', 'demo', 'launch.mjs');

test('the demo verifies every step, ends by itself and leaves nothing behind', {
  timeout: 240_000,
}, async () => {
  const demo = await startDemo('--once');

  const { status, output } = await demo.finished;

  expect(output).not.toContain('✗');
  expect(output).toContain('not one connection failed');
  expect(output).toContain('nothing was ordered twice');
  expect(output).toContain('Every step was verified');
  expect(status).toBe(0);
  expect(demo.leftovers()).toEqual([]);
});

test('an interrupted demo stops its servers and leaves nothing behind', { timeout: 120_000 }, async () => {
  const demo = await startDemo();
  await eventually('the hosts are up', () => demo.output().includes('sshd is up on every host'), {
    timeoutMs: 90_000,
  });

  demo.kill('SIGINT');

  const { status, output } = await demo.finished;
  expect(output).toContain('Interrupted');
  expect(status).toBe(130);
  expect(demo.leftovers()).toEqual([]);
});

test('the demo refuses an option that it does not have', async () => {
  const { status, output } = await (await startDemo('--twice')).finished;
  expect(output).toContain('there is no option --twice');
  expect(status).toBe(2);
});

async function startDemo(...args: string[]) {
  const scratch = await scratchDirectory();
  onTestFinished(scratch.remove);
  // Its servers run under another account, which passes through.
  await chmod(scratch.path, 0o711);
  const child = spawn(process.execPath, [LAUNCHER, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: scratch.path },
  });
  onTestFinished(() => void child.kill('SIGTERM'));
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk;
  });
  const complaints = text(child.stderr);
  const finished = once(child, 'close').then(async ([status]) => ({
    status: Number(status),
    output: output + (await complaints),
  }));
  return {
    finished,
    output: () => output,
    kill: (name: NodeJS.Signals) => void child.kill(name),
    leftovers: () => [...readdirSync(scratch.path), ...processesIn(scratch.path)],
  };
}

/** Command lines of processes that work in this directory or were told of it (proc(5)). */
function processesIn(directory: string): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        const traces = [commandLine, readlinkSync(`/proc/${pid}/cwd`)];
        return traces.some((trace) => trace.includes(directory)) ? [commandLine] : [];
      } catch {
        return []; // It ended meanwhile.
      }
    });
}
