import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';

/** What outlives a test file only if somebody forgot to close it. Pipes to the runner itself are counted before. */
const HELD = new Set([
  'TCPSocketWrap',
  'TCPServerWrap',
  'PipeWrap',
  'PipeServerWrap',
  'ProcessWrap',
  'UDPWrap',
]);
const GRACE_MS = 3_000;

let before: readonly string[] = [];

const held = (): readonly string[] => process.getActiveResourcesInfo().filter((kind) => HELD.has(kind));

beforeAll(() => {
  before = held();
});

// Closing takes a turn of the event loop or two, so this looks again until the grace is over.
afterAll(async () => {
  for (const until = performance.now() + GRACE_MS; held().length > before.length; await sleep(20)) {
    if (performance.now() < until) continue;
    throw new Error(
      `this test file left open: ${held().join(', ')} (at its begin: ${before.join(', ') || 'nothing'})`,
    );
  }
});
