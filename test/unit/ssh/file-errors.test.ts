import { describe, expect, test } from 'vitest';
import { HostError } from '../../../src/domain/host-error.ts';
import { type FileAccess, fileError, withoutLeftovers } from '../../../src/ssh/file-errors.ts';
import { type PlaceFacts, sftpError } from '../../../src/ssh/sftp-errors.ts';

const step = (access: FileAccess) => ({
  host: 'lbs/10.0.0.1',
  account: 'the account haproxy',
  step: 'create /certs/a.pem',
  path: '/certs/a.pem',
  access,
});
const roomy = { f_bavail: 1_000_000, f_frsize: 4096, f_favail: 1_000, f_flag: 0 };
const status = (code: number) => Object.assign(new Error('Failure'), { code });

describe('a status of the SFTP server is explained with the facts of the place', () => {
  test.each<{
    when: string;
    code: number;
    access: FileAccess;
    facts: PlaceFacts | undefined;
    expected: string;
  }>([
    { when: 'no such file', code: 2, access: 'create', facts: undefined, expected: 'ERR_HOST_FILES' },
    {
      when: 'permission denied to write',
      code: 3,
      access: 'create',
      facts: undefined,
      expected: 'ERR_HOST_NOT_WRITABLE',
    },
    {
      when: 'permission denied to read',
      code: 3,
      access: 'read',
      facts: undefined,
      expected: 'ERR_HOST_FILES',
    },
    {
      when: 'no blocks left',
      code: 4,
      access: 'create',
      facts: { exists: true, fileSystem: { ...roomy, f_bavail: 3 } },
      expected: 'ERR_HOST_DISK_FULL',
    },
    {
      when: 'no inodes left',
      code: 4,
      access: 'create',
      facts: { exists: false, fileSystem: { ...roomy, f_favail: 0 } },
      expected: 'ERR_HOST_DISK_FULL',
    },
    {
      when: 'no room for the content although the file system has some: a quota',
      code: 4,
      access: 'fill',
      facts: { exists: true, fileSystem: roomy },
      expected: 'ERR_HOST_DISK_FULL',
    },
    {
      when: 'no blocks left for the content',
      code: 4,
      access: 'fill',
      facts: { exists: true, fileSystem: { ...roomy, f_bavail: 0 } },
      expected: 'ERR_HOST_DISK_FULL',
    },
    {
      when: 'mounted read-only',
      code: 4,
      access: 'write',
      facts: { exists: true, fileSystem: { ...roomy, f_flag: 1, f_bavail: 0 } },
      expected: 'ERR_HOST_NOT_WRITABLE',
    },
    {
      when: 'a name that is taken',
      code: 4,
      access: 'create',
      facts: { exists: true, fileSystem: roomy },
      expected: 'ERR_HOST_FILES',
    },
    {
      when: 'a read on a full disk',
      code: 4,
      access: 'read',
      facts: { exists: true, fileSystem: { ...roomy, f_bavail: 0 } },
      expected: 'ERR_HOST_FILES',
    },
    {
      when: 'a server without statvfs',
      code: 4,
      access: 'write',
      facts: { exists: true, fileSystem: undefined },
      expected: 'ERR_HOST_FILES',
    },
  ])('$when: $expected', ({ code, access, facts, expected }) => {
    const error = sftpError(step(access), status(code), facts);
    expect(error.code).toBe(expected);
    expect(error.message).toMatch(/^lbs\/10\.0\.0\.1: create \/certs\/a\.pem: /);
  });
});

test('a directory that is not writable: the remedy names it and the account', () => {
  const error = fileError(step('create'), 'denied', '');
  expect(error).toMatchObject({ code: 'ERR_HOST_NOT_WRITABLE', retry: 'never' });
  expect(error.remedy).toContain('make the directory /certs writable for the account haproxy');
});

describe('cleaning up after a failure', () => {
  const failure = fileError(step('create'), 'full', '');

  test('gives the failure itself', async () => {
    expect(await withoutLeftovers(failure, async () => {})).toBe(failure);
  });

  test('tells when that failed too, under the same code', async () => {
    const error = await withoutLeftovers(failure, () => Promise.reject(new Error('gone')));
    expect(error).toBeInstanceOf(HostError);
    expect(error).toMatchObject({ code: 'ERR_HOST_DISK_FULL', remedy: failure.remedy });
    expect(String(error)).toContain(
      'the file system is full; and what was written could not be removed: gone',
    );
  });
});
