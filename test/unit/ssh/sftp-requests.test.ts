import { EventEmitter } from 'node:events';
import type { Client, SFTPWrapper } from 'ssh2';
import { expect, test } from 'vitest';
import { SftpRequests } from '../../../src/ssh/sftp-requests.ts';

test('a session that ended is followed by one, however many events tell of its end', async ({ signal }) => {
  const started: EventEmitter[] = [];
  const client = {
    sftp: (done: (error: undefined, sftp: SFTPWrapper) => void) => {
      const sftp = new EventEmitter();
      started.push(sftp);
      done(undefined, sftp as unknown as SFTPWrapper);
    },
  };
  const connection = {
    client: client as unknown as Client,
    closed: new AbortController().signal,
    enter: () => () => {},
    drop: () => {},
  };
  const server = { host: 'lbs/one', account: 'the account haproxy', sftp: 'subsystem' } as const;
  const requests = new SftpRequests(connection, server);
  const ask = () =>
    requests.call<number>(
      { host: 'lbs/one', account: 'the account haproxy', step: 'read', path: '/a', access: 'read' },
      (sftp, done) => done(undefined, started.indexOf(sftp)),
      { signal },
    );
  expect(await ask()).toBe(0);
  started[0]?.emit('end');
  expect(await ask()).toBe(1);
  started[0]?.emit('close');
  expect(await ask()).toBe(1);
  started[1]?.emit('close');
  expect(await ask()).toBe(2);
});
