import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { RuntimeApi } from '../../../src/haproxy/runtime-api.ts';
import type { EffectOptions } from '../../../src/ports/leadership.ts';
import { heldMandate } from '../../support/mandate.ts';

/** A peer that answers each connection from a list and remembers what it was asked. Not HAProxy: only its framing. */
function scripted(
  answers: readonly string[],
  {
    socket = 'stats',
    onConnected,
  }: { socket?: 'stats' | 'master'; onConnected?: (nth: number) => void } = {},
) {
  const asked: string[] = [];
  let next = 0;
  const runtime = new RuntimeApi({
    host: 'lb/one',
    socket,
    clock: {
      now: () => new Date(0),
      monotonicMs: () => 0,
      sleep: async (_ms, { signal }) => signal.throwIfAborted(),
    },
    connect: async () => {
      onConnected?.(next + 1);
      const answer = answers[Math.min(next++, answers.length - 1)] ?? '';
      const stream: Duplex = new Duplex({
        read: () => undefined,
        write: (chunk, _encoding, done) => {
          asked.push(String(chunk));
          stream.push(answer);
          stream.push(null);
          done();
        },
      });
      return stream;
    },
  });
  return { runtime, asked };
}

const PATH = '/certs/a.pem';
const LOCKED = 'Operations on certificates are currently locked!\n\n';

describe('commands', () => {
  test.each([
    '/certs/a.pem;quit',
    '/certs/a b.pem',
    '/certs/a.pem\nabort',
    '*/certs/a.pem',
    '/certs/a\\.pem',
    '',
  ])('a path that would be more than an argument is never sent: %j', async (path) => {
    const { runtime, asked } = scripted(['Success!\n\n']);
    await expect(runtime.commit(path, signals())).rejects.toMatchObject({ code: 'ERR_HAPROXY_REFUSED' });
    expect(asked).toEqual([]);
  });

  test('blank lines are left out of a payload, since one would end it', async () => {
    const { runtime, asked } = scripted([`Transaction created for certificate ${PATH}!\n\n`]);
    await runtime.setCertificate(PATH, 'one\r\n\r\n  \ntwo\n\n', { bufferBytes: 16_384, ...signals() });
    expect(asked).toEqual([`set ssl cert ${PATH} <<\none\ntwo\n\n`]);
  });

  test('through the master CLI they go to the worker, and the connection is ended', async () => {
    const { runtime, asked } = scripted(
      [`Transaction created for certificate ${PATH}!\n\n`, 'Success!\n\nnothing\n\n'],
      { socket: 'master' },
    );
    await runtime.setCertificate(PATH, 'pem', { bufferBytes: 16_384, ...signals() });
    await runtime.commit(PATH, signals());
    expect(asked).toEqual([
      `@1 set ssl cert ${PATH} <<\npem\n\nquit\n`,
      `@1;commit ssl cert ${PATH};show ssl cert ${PATH}\nquit\n`,
    ]);
  });

  test.each([
    { bytes: 'one byte less than the buffer', fill: 16_383, sent: 1 },
    { bytes: 'as many bytes as the buffer', fill: 16_384, sent: 0 },
  ])('a command of $bytes is sent $sent times', async ({ fill, sent }) => {
    const { runtime, asked } = scripted([`Transaction created for certificate ${PATH}!\n\n`]);
    const frame = `set ssl cert ${PATH} <<\n\n\n`.length;
    const setting = runtime.setCertificate(PATH, 'x'.repeat(fill - frame), {
      bufferBytes: 16_384,
      ...signals(),
    });
    if (sent === 1) await setting;
    else {
      await expect(setting).rejects.toMatchObject({
        code: 'ERR_HAPROXY_PAYLOAD_TOO_LARGE',
        remedy: expect.stringContaining('tune.bufsize 32768'),
      });
    }
    expect(asked).toHaveLength(sent);
  });
});

describe('answers', () => {
  test('an empty one is a failure', async () => {
    const { runtime } = scripted(['']);
    await expect(runtime.commit(PATH, signals())).rejects.toMatchObject({
      code: 'ERR_HAPROXY_REFUSED',
      message: `lb/one: commit certificate ${PATH}: HAProxy gave no answer`,
    });
  });

  test('while another thread holds the lock, the command is repeated', async () => {
    const { runtime, asked } = scripted([LOCKED, LOCKED, "Transaction aborted for certificate 'x'!\n\n"]);
    expect(await runtime.abort(PATH, signals())).toBe(true);
    expect(asked).toHaveLength(3);
  });

  test('a lock that stays is given up with ERR_HAPROXY_BUSY', async () => {
    const { runtime, asked } = scripted([LOCKED]);
    await expect(runtime.abort(PATH, signals())).rejects.toMatchObject({ code: 'ERR_HAPROXY_BUSY' });
    expect(asked.length).toBeGreaterThan(10);
  });

  test('answers that cannot be told apart are asked for one by one', async () => {
    const { runtime, asked } = scripted([
      'Name: HAProxy\n\nVersion: 9\n\nPool\n\nand more\n\n# filename\n\n',
      'Name: HAProxy\n\nVersion: 9\n\n',
      '- Pool buffer (32768 bytes)\n\n',
      '# filename\n/certs/a.pem\n\n',
    ]);
    expect(await runtime.look([], signals())).toEqual({
      version: '9',
      bufferBytes: 32_768,
      pending: undefined,
      known: ['/certs/a.pem'],
      loaded: new Map(),
    });
    expect(asked).toHaveLength(4);
  });

  test('a transaction that was pending already is reported as busy', async () => {
    const { runtime } = scripted(['Transaction updated for certificate /certs/other.pem!\n\n']);
    const setting = runtime.setCertificate(PATH, 'pem', { bufferBytes: 16_384, ...signals() });
    await expect(setting).rejects.toMatchObject({ code: 'ERR_HAPROXY_BUSY', retry: 'later' });
  });

  test('aborting ends the wait for one at once', async () => {
    const runtime = new RuntimeApi({
      host: 'lb/one',
      socket: 'stats',
      clock: { now: () => new Date(0), monotonicMs: () => 0, sleep: (ms) => sleep(ms) },
      connect: async () => new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() }),
    });
    const controller = new AbortController();
    const asking = runtime.abort(PATH, { ...signals(), signal: controller.signal });
    controller.abort(new Error('stopped by the test'));
    await expect(asking).rejects.toThrow('stopped by the test');
  });
});

describe('a mandate', () => {
  const effects = {
    set: (runtime: RuntimeApi, options: EffectOptions) =>
      runtime.setCertificate(PATH, 'pem', { bufferBytes: 16_384, ...options }),
    commit: (runtime: RuntimeApi, options: EffectOptions) => runtime.commit(PATH, options),
    abort: (runtime: RuntimeApi, options: EffectOptions) => runtime.abort(PATH, options),
  };

  test.each(Object.entries(effects))('lost while connecting lets no %s out', async (_name, effect) => {
    const options = signals();
    const { runtime, asked } = scripted(['Success!\n\n'], { onConnected: () => options.mandate.lose() });
    await expect(effect(runtime, options)).rejects.toMatchObject({ code: 'ERR_MANDATE_LOST' });
    expect(asked).toEqual([]);
  });

  test.each(Object.entries(effects))(
    'lost while another thread holds the lock lets no %s be repeated',
    async (_name, effect) => {
      const options = signals();
      const { runtime, asked } = scripted([LOCKED], {
        onConnected: (nth) => {
          if (nth === 3) options.mandate.lose();
        },
      });
      await expect(effect(runtime, options)).rejects.toMatchObject({ code: 'ERR_MANDATE_LOST' });
      expect(asked).toHaveLength(2);
    },
  );

  test('that is lost keeps nobody from looking', async () => {
    const { mandate, ...options } = signals();
    mandate.lose();
    const { runtime } = scripted(['Filename: *x\n\n']);
    expect(await runtime.showPending(PATH, options)).toBeUndefined();
  });
});

function signals() {
  return { signal: new AbortController().signal, mandate: heldMandate() };
}
