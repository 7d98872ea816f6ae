import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { readSecret } from '../../../src/config/secret.ts';
import { scratchDirectory } from '../../support/scratch.ts';

async function secretFile(content: string, mode = 0o600): Promise<string> {
  const directory = await scratchDirectory();
  onTestFinished(() => directory.remove());
  const path = join(directory.path, 'secret');
  await writeFile(path, content, { mode: 0o600 });
  await chmod(path, mode);
  return path;
}

test('a file gives its text without the newline at its end', async ({ signal }) => {
  const file = await secretFile('first\nsecond \r\n\n');
  expect(await readSecret({ file }, { signal })).toBe('first\nsecond ');
});

test('an environment variable gives its value', async ({ signal }) => {
  vi.stubEnv('KACME_TEST_SECRET', 'hunter2');
  onTestFinished(() => void vi.unstubAllEnvs());
  expect(await readSecret({ env: 'KACME_TEST_SECRET' }, { signal })).toBe('hunter2');
});

test('an environment variable that is not set is named', async ({ signal }) => {
  await expect(readSecret({ env: 'KACME_TEST_ABSENT' }, { signal })).rejects.toMatchObject({
    code: 'ERR_SECRET_UNREADABLE',
    retry: 'never',
    message: 'cannot read a secret from the environment variable KACME_TEST_ABSENT: it is not set',
    remedy: 'set KACME_TEST_ABSENT for the kacme process',
  });
});

test.each([0o640, 0o604, 0o660, 0o610])(
  'a file of ours with mode %o is refused with the remedy',
  async (mode) => {
    const file = await secretFile('hunter2\n', mode);
    await expect(readSecret({ file }, anySignal())).rejects.toMatchObject({
      code: 'ERR_SECRET_UNREADABLE',
      message: expect.stringContaining(`its permissions 0${mode.toString(8)} are open to other users`),
      remedy: `chmod 600 ${file}`,
    });
  },
);

test.runIf(process.getuid?.() === 0).each([
  { mode: 0o440, accepted: true },
  { mode: 0o444, accepted: false },
])('a file of another user with mode $mode: accepted $accepted', async ({ mode, accepted }) => {
  const file = await secretFile('hunter2\n', mode);
  await chown(file, 65_534, 65_534);
  const secret = readSecret({ file }, anySignal());
  await (accepted
    ? expect(secret).resolves.toBe('hunter2')
    : expect(secret).rejects.toThrow('open to other users'));
});

test('what is no secret is refused, and its content is not repeated', async ({ signal }) => {
  const file = await secretFile('\n');
  await expect(readSecret({ file }, { signal })).rejects.toThrow(`the file ${file}: it is empty`);
  const directory = join(file, '..', 'directory');
  await mkdir(directory);
  await expect(readSecret({ file: directory }, { signal })).rejects.toThrow('it is not a regular file');
  const large = await secretFile('hunter2'.repeat(10_000));
  await expect(readSecret({ file: large }, { signal })).rejects.toThrow('it has more than 65536 bytes');
  await expect(readSecret({ file: large }, { signal })).rejects.not.toThrow('hunter2');
});

test('a file that is not there is named', async ({ signal }) => {
  await expect(readSecret({ file: '/nowhere/secret' }, { signal })).rejects.toMatchObject({
    code: 'ERR_SECRET_UNREADABLE',
    message: expect.stringMatching(/^cannot read a secret from the file \/nowhere\/secret: ENOENT/),
    cause: expect.objectContaining({ code: 'ENOENT' }),
  });
});

test('an abort ends it with its reason', async () => {
  const reason = new Error('stop');
  await expect(readSecret({ file: '/nowhere' }, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

function anySignal(): { signal: AbortSignal } {
  return { signal: new AbortController().signal };
}
