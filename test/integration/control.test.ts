import { EventEmitter, once } from 'node:events';
import { chmod, link, mkdir, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import { KacmeError } from '../../src/domain/errors.ts';
import type { Progress } from '../../src/domain/status.ts';
import { connectControl } from '../../src/http/control-client.ts';
import { type ControlServer, startControlServer } from '../../src/http/control-server.ts';
import type { KacmeService } from '../../src/ports/service.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { CALENDAR, fakeService, STATUS, SUMMARY } from '../unit/cli/fake-service.ts';

const log = pino({ level: 'silent' });
const ignoreProgress = (): void => undefined;

async function socketDirectory(): Promise<string> {
  const scratch = await scratchDirectory();
  onTestFinished(() => scratch.remove());
  return scratch.path;
}

async function start(
  socketPath: string,
  service: KacmeService,
  { signal }: { signal: AbortSignal },
): Promise<ControlServer> {
  const server = await startControlServer({ socketPath, service, log }, { signal });
  onTestFinished(() => server.close());
  return server;
}

async function connected(
  service: KacmeService,
  { signal, ...options }: { signal: AbortSignal; answerWithinMs?: number },
): Promise<{ readonly client: KacmeService; readonly server: ControlServer }> {
  const server = await start(join(await socketDirectory(), 'control.sock'), service, { signal });
  const client = await connectControl(server.socketPath, { signal, ...options });
  if (client === undefined) throw new Error('no service answers');
  return { client, server };
}

async function post(
  socketPath: string,
  path: string,
  body: string,
): Promise<{ status: number; body: unknown }> {
  const request = httpRequest({ socketPath, path, method: 'POST', agent: false });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, body: await json(response) };
}

test('commands, their requests, progress and results cross the socket unchanged', async ({ signal }) => {
  const asked: unknown[] = [];
  const { client } = await connected(
    fakeService({
      calendar: async (request) => {
        asked.push(request);
        return CALENDAR;
      },
      renew: async (request, { onProgress }) => {
        asked.push(request);
        onProgress({ message: 'ordering external' });
        onProgress({ message: 'installing ¼ – ok' });
        return SUMMARY;
      },
      distribute: async (request) => {
        asked.push(request);
        return SUMMARY;
      },
      reloadConfig: async () => void asked.push('reload'),
    }),
    { signal },
  );
  const progress: Progress[] = [];
  const options = { signal, onProgress: (line: Progress) => void progress.push(line) };

  // Fields that are undefined are absent after JSON.
  expect(await client.status({ signal })).toEqual(STATUS);
  expect(await client.calendar({ days: 7 }, { signal })).toEqual(CALENDAR);
  expect(await client.renew({ names: ['external'], force: true, dryRun: false }, options)).toEqual(SUMMARY);
  expect(await client.distribute({ host: undefined }, options)).toEqual(SUMMARY);
  expect(await client.distribute({ host: '10.0.0.11' }, options)).toEqual(SUMMARY);
  expect(await client.bootstrap(options)).toEqual(SUMMARY);
  await client.reloadConfig({ signal });

  expect(asked).toEqual([
    { days: 7 },
    { names: ['external'], force: true, dryRun: false },
    { host: undefined },
    { host: '10.0.0.11' },
    'reload',
  ]);
  expect(progress).toEqual([{ message: 'ordering external' }, { message: 'installing ¼ – ok' }]);
});

test('an error of the service arrives with its code, message, retry and remedy', async ({ signal }) => {
  const error = new KacmeError('ERR_UNKNOWN_NAME', 'renew nosuch: no such certificate', {
    retry: 'never',
    remedy: 'use one of: external',
  });
  const { client } = await connected(
    fakeService({
      renew: async (_request, { onProgress }) => {
        onProgress({ message: 'started' });
        throw error;
      },
      status: async () => {
        throw error;
      },
    }),
    { signal },
  );
  const same = { code: error.code, message: error.message, retry: error.retry, remedy: error.remedy };

  const options = { signal, onProgress: ignoreProgress };
  await expect(
    client.renew({ names: ['nosuch'], force: false, dryRun: false }, options),
  ).rejects.toMatchObject(same);
  await expect(client.status({ signal })).rejects.toMatchObject(same);
});

test('a client that aborts gets its own reason at once, and the command on the service is aborted', async ({
  signal,
}) => {
  const command = new EventEmitter();
  const started = once(command, 'started', { signal });
  const aborted = once(command, 'aborted', { signal });
  const { client } = await connected(
    fakeService({
      distribute: async (_request, options) => {
        command.emit('started');
        await once(options.signal, 'abort');
        command.emit('aborted', options.signal.reason);
        throw options.signal.reason;
      },
    }),
    { signal },
  );
  const operator = new AbortController();
  const asked = client.distribute(
    { host: undefined },
    { signal: operator.signal, onProgress: ignoreProgress },
  );
  await started;
  operator.abort(new Error('ctrl-c'));

  await expect(asked).rejects.toThrow('ctrl-c');
  expect(await aborted).toMatchObject([{ code: 'ERR_ABORTED' }]);
});

test('a service that stops aborts its commands, answers them and removes its socket', async ({ signal }) => {
  const command = new EventEmitter();
  const started = once(command, 'started', { signal });
  const { client, server } = await connected(
    fakeService({
      bootstrap: async (options) => {
        command.emit('started');
        await once(options.signal, 'abort');
        throw options.signal.reason;
      },
    }),
    { signal },
  );
  const asked = client.bootstrap({ signal, onProgress: ignoreProgress });
  const refused = expect(asked).rejects.toMatchObject({ code: 'ERR_ABORTED', retry: 'later' });
  await started;
  await server.close();

  await refused;
  expect(await connectControl(server.socketPath, { signal })).toBeUndefined();
  await expect(stat(server.socketPath)).rejects.toMatchObject({ code: 'ENOENT' });
});

describe('a service that is slow', () => {
  const answerWithinMs = 150;
  const outlastIt = () => sleep(answerWithinMs * 3);
  const silent = {
    code: 'ERR_CONTROL_UNREACHABLE',
    retry: 'later',
    message: expect.stringContaining(`gave no answer within ${answerWithinMs} ms`),
    remedy: expect.stringContaining('restart it'),
  };

  test('or stopped, so that only the system takes connections for it, is not waited for', async ({
    signal,
  }) => {
    const socketPath = join(await socketDirectory(), 'control.sock');
    const sockets = new Set<Socket>();
    const stopped = createServer((socket) => sockets.add(socket));
    stopped.listen(socketPath);
    await once(stopped, 'listening');
    onTestFinished(async () => {
      for (const socket of sockets) socket.destroy();
      stopped.close();
      await once(stopped, 'close');
    });
    const client = await connectControl(socketPath, { signal, answerWithinMs });
    if (client === undefined) throw new Error('no service answers');

    const options = { signal, onProgress: ignoreProgress };
    await Promise.all(
      [
        client.status({ signal }),
        client.reloadConfig({ signal }),
        client.bootstrap(options),
        client.renew({ names: [], force: false, dryRun: false }, options),
        client.distribute({ host: undefined }, options),
      ].map((asked) => expect(asked).rejects.toMatchObject(silent)),
    );
  });

  test('to tell its status is not waited for, and what it does for that is aborted', async ({ signal }) => {
    const command = new EventEmitter();
    const aborted = once(command, 'aborted', { signal });
    const status: KacmeService['status'] = async (options) => {
      await once(options.signal, 'abort');
      command.emit('aborted');
      throw options.signal.reason;
    };
    const { client } = await connected(fakeService({ status }), { signal, answerWithinMs });
    await expect(client.status({ signal })).rejects.toMatchObject(silent);
    await aborted;
  });

  test('in a long command is waited for, whether it tells of progress or not', async ({ signal }) => {
    const lasting = async () => {
      await outlastIt();
      return SUMMARY;
    };
    const { client } = await connected(
      fakeService({ bootstrap: lasting, renew: lasting, distribute: lasting }),
      { signal, answerWithinMs },
    );
    const options = { signal, onProgress: ignoreProgress };
    const summaries = await Promise.all([
      client.bootstrap(options),
      client.renew({ names: [], force: false, dryRun: false }, options),
      client.distribute({ host: undefined }, options),
    ]);
    expect(summaries).toEqual([SUMMARY, SUMMARY, SUMMARY]);
  });
});

test('a service that dies in the middle of a command is reported as such', async ({ signal }) => {
  const socketPath = join(await socketDirectory(), 'control.sock');
  const dying = createServer((socket) => {
    socket.once('data', () => {
      const line = '{"progress":{"message":"half way"}}\n';
      socket.write(
        `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${line.length.toString(16)}\r\n${line}\r\n`,
        () => socket.destroy(),
      );
    });
    socket.on('error', () => undefined);
  });
  dying.listen(socketPath);
  await once(dying, 'listening');
  onTestFinished(async () => {
    dying.close();
    await once(dying, 'close');
  });
  const client = await connectControl(socketPath, { signal });

  const progress: Progress[] = [];
  await expect(
    client?.bootstrap({ signal, onProgress: (line) => void progress.push(line) }),
  ).rejects.toMatchObject({
    code: 'ERR_CONTROL_UNREACHABLE',
    remedy: expect.stringContaining('log of the service'),
  });
  expect(progress).toEqual([{ message: 'half way' }]);
});

test('nothing answers where there is no socket, no directory, or only a stale file', async ({ signal }) => {
  const directory = await socketDirectory();
  expect(await connectControl(join(directory, 'none.sock'), { signal })).toBeUndefined();
  expect(await connectControl(join(directory, 'none', 'none.sock'), { signal })).toBeUndefined();
  expect(await connectControl(await staleSocket(directory), { signal })).toBeUndefined();
});

/** What a killed service leaves behind: a socket file that nobody listens at. */
async function staleSocket(directory: string): Promise<string> {
  const path = join(directory, 'stale.sock');
  const draft = createServer();
  draft.listen(path);
  await once(draft, 'listening');
  const kept = join(directory, 'kept.sock');

  await link(path, kept);
  draft.close();
  await once(draft, 'close');
  return kept;
}

test('a stale socket is replaced', async ({ signal }) => {
  const socketPath = await staleSocket(await socketDirectory());
  await start(socketPath, fakeService(), { signal });
  const client = await connectControl(socketPath, { signal });
  expect(await client?.status({ signal })).toEqual(STATUS);
});

test('a socket at which another service answers is left alone', async ({ signal }) => {
  const socketPath = join(await socketDirectory(), 'control.sock');
  await start(socketPath, fakeService(), { signal });
  await expect(
    startControlServer({ socketPath, service: fakeService(), log }, { signal }),
  ).rejects.toMatchObject({
    code: 'ERR_LISTEN',
    message: expect.stringContaining('another service answers'),
  });

  const client = await connectControl(socketPath, { signal });
  expect(await client?.status({ signal })).toEqual(STATUS);
});

test('a file that is not a socket is not overwritten', async ({ signal }) => {
  const socketPath = join(await socketDirectory(), 'control.sock');
  await writeFile(socketPath, 'precious');
  await expect(
    startControlServer({ socketPath, service: fakeService(), log }, { signal }),
  ).rejects.toMatchObject({ code: 'ERR_LISTEN', message: expect.stringContaining('not a socket') });
  expect((await stat(socketPath)).isFile()).toBe(true);
});

test('a path longer than a UNIX socket can have is refused with its length', async ({ signal }) => {
  const socketPath = join(await socketDirectory(), 'a'.repeat(100), 'control.sock');
  await expect(
    startControlServer({ socketPath, service: fakeService(), log }, { signal }),
  ).rejects.toMatchObject({ code: 'ERR_LISTEN', remedy: expect.stringContaining('shorter path') });
  expect(await connectControl(socketPath, { signal })).toBeUndefined();
});

test('the socket is made with mode 0600 and nothing else is left beside it', async ({ signal }) => {
  const directory = join(await socketDirectory(), 'run');
  const { socketPath } = await start(join(directory, 'control.sock'), fakeService(), { signal });
  expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect(await readdir(directory)).toEqual(['control.sock']);
});

test.runIf(process.getuid?.() === 0)(
  'another user is told to run kacme as the right one',
  async ({ signal }) => {
    const directory = await socketDirectory();
    await chmod(directory, 0o755);
    const { socketPath } = await start(join(directory, 'control.sock'), fakeService(), { signal });
    process.seteuid?.(65_534);
    try {
      await expect(connectControl(socketPath, { signal })).rejects.toMatchObject({
        code: 'ERR_CONTROL_UNREACHABLE',
        message: expect.stringContaining('permission denied'),
        remedy: expect.stringContaining('as the user the service runs as'),
      });
    } finally {
      process.seteuid?.(0);
    }
  },
);

test.each([
  { what: 'an unknown path', path: '/v1/destroy', body: '{}', status: 404 },
  { what: 'a method that does not fit', path: '/v1/status', body: '', status: 400 },
  { what: 'a body that is not JSON', path: '/v1/renew', body: '{"names":', status: 400 },
  { what: 'a missing field', path: '/v1/renew', body: '{"names":[]}', status: 400 },
  { what: 'an unknown field', path: '/v1/distribute', body: '{"hosts":"a"}', status: 400 },
])('answers $status and a reason to $what', async ({ path, body, status }) => {
  const { signal } = new AbortController();
  const { server } = await connected(fakeService(), { signal });
  const answer = await post(server.socketPath, path, body);
  expect(answer).toEqual({
    status,
    body: { error: expect.objectContaining({ code: 'ERR_CONTROL_REQUEST', retry: 'never' }) },
  });
});

test('a request that is too large is refused before it is read', async ({ signal }) => {
  const { server } = await connected(fakeService(), { signal });
  const request = httpRequest({
    socketPath: server.socketPath,
    path: '/v1/renew',
    method: 'POST',
    headers: { 'content-length': 5 * 1024 * 1024 },
    agent: false,
  });
  request.flushHeaders();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  expect(response.statusCode).toBe(400);
  expect(await json(response)).toEqual({
    error: expect.objectContaining({ message: expect.stringContaining('larger than') }),
  });
  request.destroy();
});

test('closing twice is the same as closing once', async ({ signal }) => {
  const { server } = await connected(fakeService(), { signal });
  await Promise.all([server.close(), server.close()]);
});

test('closing leaves the socket of a successor alone', async ({ signal }) => {
  const directory = await socketDirectory();
  const socketPath = join(directory, 'control.sock');
  const first = await start(socketPath, fakeService(), { signal });

  await mkdir(join(directory, 'aside'));
  await rename(socketPath, join(directory, 'aside', 's'));
  await start(socketPath, fakeService(), { signal });
  await first.close();
  const client = await connectControl(socketPath, { signal });
  expect(await client?.status({ signal })).toEqual(STATUS);
});
