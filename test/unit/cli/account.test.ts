import { expect, test } from 'vitest';
import { runCli } from '../../../src/cli/program.ts';
import type { AccountView } from '../../../src/domain/account.ts';
import { fakeContext } from './fake-context.ts';
import { ACCOUNT } from './fake-service.ts';

const showing = (...accounts: readonly AccountView[]) =>
  fakeContext({ service: { accounts: async () => accounts } });

test('account show says which contacts it cannot know, and prints what JSON has', async () => {
  const context = showing(ACCOUNT);
  expect(await runCli(['account', 'show'], context)).toBe(0);
  for (const part of [
    'letsencrypt: valid',
    'https://ca.test/acct/1',
    'mailto:ops@example.org (configured; the CA does not tell its own)',
    `ecdsa-p256, thumbprint ${ACCOUNT.key?.thumbprint}`,
    'https://ca.test/terms-2.pdf',
    'no eab needed',
  ])
    expect(context.stdout.text).toContain(part);
  const json = showing(ACCOUNT);
  expect(await runCli(['account', 'show', '--json'], json)).toBe(0);
  expect(JSON.parse(json.stdout.text)).toMatchObject([{ issuer: 'letsencrypt', state: 'valid' }]);
});

test('account show ends with 1 for a CA that cannot be asked, and shows the others', async () => {
  const failure = { code: 'ERR_ACME_TIMEOUT', message: 'no answer', retry: 'later' } as const;
  const context = showing(ACCOUNT, { ...ACCOUNT, issuer: 'buypass', state: 'unknown', failure });
  expect(await runCli(['account', 'show'], context)).toBe(1);
  expect(context.stdout.text).toMatch(
    /letsencrypt: valid[\s\S]*buypass: unknown[\s\S]*ERR_ACME_TIMEOUT\n {2}no answer/,
  );
});

test('account deactivate asks nobody without --yes', async () => {
  const context = fakeContext();
  expect(await runCli(['account', 'deactivate', 'letsencrypt'], context)).toBe(2);
  expect(context.stderr.text).toContain('cannot be undone');
  expect(context.calls).toEqual([]);
});
