import { expect, test } from 'vitest';
import { renderLogLine } from '../../../src/cli/human-log.ts';
import { createLogger, serializeError } from '../../../src/cli/logging.ts';
import { KacmeError } from '../../../src/domain/errors.ts';
import { TextOutput } from './fake-context.ts';

const KEY = '-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByq\n-----END PRIVATE KEY-----\n';

function logged(write: (log: ReturnType<typeof createLogger>) => void): Record<string, unknown> {
  const destination = new TextOutput();
  write(createLogger({ level: 'debug', destination, env: {} }));
  return JSON.parse(destination.text) as Record<string, unknown>;
}

test('a line is JSON with time, level, msg and the fields of the event, and nothing else', () => {
  const line = logged((log) => log.info({ certificate: 'external', reason: 'not due' }, 'renewal decided'));
  expect(line).toEqual({
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    level: 'info',
    msg: 'renewal decided',
    certificate: 'external',
    reason: 'not due',
  });
});

test('what is below the level is not written', () => {
  const destination = new TextOutput();
  createLogger({ level: 'warn', destination, env: {} }).info('quiet');
  expect(destination.text).toBe('');
});

test.each([
  { where: 'keyPem', fields: { keyPem: KEY } },
  { where: 'pem, one level down', fields: { bundle: { pem: KEY } } },
  { where: 'privateKey, two levels down', fields: { a: { b: { privateKey: KEY } } } },
  { where: 'keyAuthorization', fields: { challenge: { keyAuthorization: 'MIGHAgEAMBMGByq' } } },
  { where: 'token', fields: { token: 'MIGHAgEAMBMGByq' } },
  { where: 'a field nobody thought of', fields: { deep: { er: { than: { that: KEY } } } } },
  { where: 'the message of an error', fields: { err: new Error(`parse ${KEY} failed`) } },
  { where: 'a key that is cut short', fields: { text: KEY.slice(0, 45) } },
  { where: 'an EC key', fields: { text: KEY.replaceAll('PRIVATE', 'EC PRIVATE') } },
])('a secret in $where does not reach the log', ({ fields }) => {
  const line = logged((log) => log.error(fields, 'oops'));
  expect(JSON.stringify(line)).not.toContain('MIGHAgEA');
  expect(JSON.stringify(line)).toContain('[redacted]');
  expect(line).toMatchObject({ msg: 'oops' });
});

test('an error shows code, message, retry, remedy and its causes, without a stack', () => {
  const socket = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:14000'), { code: 'ECONNREFUSED' });
  const error = new KacmeError('ERR_ACME_UNREACHABLE', 'get the directory: connection refused', {
    retry: 'later',
    remedy: 'open the way',
    cause: new TypeError('fetch failed', { cause: new AggregateError([socket], 'all failed') }),
  });
  expect(serializeError(error)).toEqual({
    code: 'ERR_ACME_UNREACHABLE',
    message: 'get the directory: connection refused',
    retry: 'later',
    remedy: 'open the way',
    causes: [
      { message: 'fetch failed' },
      { message: 'all failed' },
      { code: 'ECONNREFUSED', message: 'connect ECONNREFUSED 127.0.0.1:14000' },
    ],
  });
});

test('only a defect shows its stack', () => {
  expect(serializeError(new TypeError('x is undefined'))).toMatchObject({
    code: 'ERR_INTERNAL',
    message: 'x is undefined',
    stack: expect.stringContaining('TypeError: x is undefined\n    at '),
  });
  expect(serializeError(new DOMException('stopped', 'AbortError'))).not.toHaveProperty('stack');
  expect(serializeError('a string')).toMatchObject({ code: 'ERR_INTERNAL', message: 'a string' });
});

test('causes that go round in a circle end', () => {
  const error = new Error('a');
  error.cause = new Error('b', { cause: error });
  expect(serializeError(error).causes).toHaveLength(10);
});

test('on a terminal a line is for people', () => {
  const destination = new TextOutput(100);
  const log = createLogger({ level: 'info', destination, env: { NO_COLOR: '1' } });
  log.info({ certificate: 'external', reason: 'not due', attempts: 2 }, 'renewal decided');
  expect(destination.text).toMatch(
    /^\d\d:\d\d:\d\d INFO {2}renewal decided {2}certificate=external {2}reason="not due" {2}attempts=2\n$/,
  );
});

test('on a terminal an error is shown below its line', () => {
  const err = {
    code: 'ERR_LISTEN',
    message: 'port taken',
    remedy: 'free it',
    causes: [{ message: 'EADDRINUSE' }],
  };
  const line = JSON.stringify({ time: '2026-03-01T12:00:00.000Z', level: 'error', msg: 'start failed', err });
  expect(renderLogLine(line, { colour: false, columns: 80 })).toBe(
    '12:00:00 ERROR start failed\n  ERR_LISTEN: port taken\n  what to do: free it\n  because: EADDRINUSE\n',
  );
});

test('a line that is not JSON reaches the terminal all the same', () => {
  expect(renderLogLine('panic\n', { colour: false, columns: 80 })).toBe('panic\n');
});
