import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { MasterCli } from '../../../src/haproxy/master-cli.ts';

const PROCESSES = `#<PID>          <type>          <reloads>       <uptime>        <version>
10              master          1 [failed: 0]   0d00h00m21s     2.6.12
# workers
30              worker          0               0d00h00m01s     2.6.12
# old workers
20              worker          1               0d00h00m21s     2.6.12
# programs
`;

/** Answers by what it is asked; not a master CLI, only its framing. A list is used up answer by answer. */
function master(answers: Readonly<Record<string, string[]>>) {
  return new MasterCli({
    host: 'lb/one',
    clock: {
      now: () => new Date(0),
      monotonicMs: () => 0,
      sleep: async (_ms, { signal }) => signal.throwIfAborted(),
    },
    connect: async () => {
      const stream: Duplex = new Duplex({
        read: () => undefined,
        write: (chunk, _encoding, done) => {
          const [command = ''] = String(chunk).split('\n');
          const left = answers[command] ?? [];
          stream.push((left.length > 1 ? left.shift() : left[0]) ?? '');
          stream.push(null);
          done();
        },
      });
      return stream;
    },
  });
}

const options = { signal: new AbortController().signal };

test('an old worker that takes new connections is named', async () => {
  const cli = master({ 'show proc': [PROCESSES], '@!20 show info': ['Pid: 20\nStopping: 0\n'] });
  expect(await cli.workers(options)).toEqual({ current: 1, old: 1, listening: [20] });
});

test('one that is handing over at this very moment is not', async () => {
  const cli = master({ 'show proc': [PROCESSES], '@!20 show info': ['Stopping: 0\n', 'Stopping: 1\n'] });
  expect(await cli.workers(options)).toEqual({ current: 1, old: 1, listening: [] });
});

test('one that has ended since it was listed is not', async () => {
  const gone = "Can't find the target PID matching the prefix '@!20'\n";
  const cli = master({ 'show proc': [PROCESSES], '@!20 show info': [gone] });
  expect(await cli.workers(options)).toEqual({ current: 1, old: 1, listening: [] });
});

test('a master that lists no worker is a failure', async () => {
  await expect(master({ 'show proc': ['# workers\n'] }).workers(options)).rejects.toMatchObject({
    code: 'ERR_HAPROXY_REFUSED',
    step: 'list the processes of HAProxy',
  });
});
