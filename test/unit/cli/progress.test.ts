import { expect, test } from 'vitest';
import { runCli } from '../../../src/cli/program.ts';
import { renderSummary } from '../../../src/cli/render/summary.ts';
import { KacmeError } from '../../../src/domain/errors.ts';
import type { KacmeService } from '../../../src/ports/service.ts';
import { fakeContext } from './fake-context.ts';
import { SUMMARY } from './fake-service.ts';

const TERMINAL = { columns: 80, env: { NO_COLOR: '1' } };
const ERASE = '\u001b[K';

const service: Partial<KacmeService> = {
  bootstrap: async ({ onProgress }) => {
    onProgress({ message: 'external: created' });
    onProgress({ message: 'x'.repeat(100) });
    return SUMMARY;
  },
};

test('on a terminal progress is one line that the result replaces', async () => {
  const context = fakeContext({ service, ...TERMINAL });
  await runCli(['bootstrap'], context);
  expect(context.stderr.text).toBe(`\rexternal: created${ERASE}\r${'x'.repeat(78)}…${ERASE}\r${ERASE}`);
  expect(context.stdout.text).toBe(renderSummary(SUMMARY, { colour: false, columns: 80 }));
});

test('progress stays when no result follows', async () => {
  const context = fakeContext({
    ...TERMINAL,
    service: {
      bootstrap: async ({ onProgress }) => {
        onProgress({ message: 'external: created' });
        throw new KacmeError('ERR_ABORTED', 'stopped', { retry: 'later' });
      },
    },
  });
  await runCli(['bootstrap'], context);
  expect(context.stderr.text).toBe(
    `\rexternal: created${ERASE}\r${ERASE}external: created\nkacme: stopped\n`,
  );
});

test.each([
  { where: 'when piped', options: {}, argv: [] },
  { where: 'on a dumb terminal', options: { columns: 80, env: { TERM: 'dumb' } }, argv: [] },
  { where: 'on a terminal of unknown width', options: { ...TERMINAL, columns: 0 }, argv: [] },
  { where: 'beside a log', options: TERMINAL, argv: ['--log-level', 'info'] },
])('progress is lines $where', async ({ options, argv }) => {
  const context = fakeContext({ service, ...options });
  await runCli(['bootstrap', ...argv], context);
  expect(context.stderr.text).toBe(`external: created\n${'x'.repeat(100)}\n`);
});
