import { describe, expect, test } from 'vitest';
import { runCli } from '../../../src/cli/program.ts';
import { KacmeError } from '../../../src/domain/errors.ts';
import type { Summary } from '../../../src/domain/status.ts';
import { fakeContext } from './fake-context.ts';
import { CALENDAR, CHECK, STATUS, SUMMARY } from './fake-service.ts';

const DONE: Summary = { outcome: 'done', certificates: [], places: [] };

describe('usage', () => {
  test.each([
    { argv: ['stats'], says: "unknown command 'stats'", suggests: 'Did you mean status?' },
    { argv: ['renew', '--forced'], says: "unknown option '--forced'", suggests: 'Did you mean --force?' },
    { argv: ['status', 'now'], says: 'too many arguments', suggests: 'kacme status --help' },
    { argv: ['distribute', '--host'], says: 'argument missing', suggests: 'kacme distribute --help' },
    { argv: ['plan', '--days', '0'], says: 'Expected a whole number from 1 to 730', suggests: '' },
    { argv: ['status', '--log-level', 'loud'], says: 'trace, debug, info, warn, error', suggests: '' },
    { argv: ['config', 'show', '--yaml'], says: 'unknown option', suggests: 'kacme config show --help' },
    {
      argv: ['hosts', 'scan', '--port', 'ssh'],
      says: 'Expected a port',
      suggests: 'kacme hosts scan --help',
    },
    { argv: ['config', 'chek'], says: "unknown command 'chek'", suggests: 'Did you mean check?' },
  ])('$argv ends with 2 and a suggestion', async ({ argv, says, suggests }) => {
    const context = fakeContext();
    expect(await runCli(argv, context)).toBe(2);
    expect(context.stderr.text).toMatch(/^kacme: /);
    expect(context.stderr.text).toContain(says);
    expect(context.stderr.text).toContain(suggests);
    expect(context.stdout.text).toBe('');
    expect(context.calls).toEqual([]);
  });

  test('no command at all prints the help and ends with 2', async () => {
    const context = fakeContext();
    expect(await runCli([], context)).toBe(2);
    expect(context.stderr.text).toContain('Usage: kacme');
  });

  test('the version and every help go to stdout and end with 0', async () => {
    const context = fakeContext();
    expect(await runCli(['--version'], context)).toBe(0);
    expect(context.stdout.text).toBe('1.2.3\n');
    expect(await runCli(['--help'], context)).toBe(0);
    expect(context.stderr.text).toBe('');
  });

  test.each([
    'account show',
    'account recover',
    'bootstrap',
    'serve',
    'status',
    'check',
    'plan',
    'renew',
    'rollback',
    'reload',
    'adopt',
    'distribute',
    'reload-config',
  ])('the help of %s has examples, exit statuses and the global options', async (command) => {
    const context = fakeContext();
    expect(await runCli([...command.split(' '), '--help'], context)).toBe(0);
    for (const part of ['Examples:', `kacme ${command}`, 'Exit status:', '--config <file>']) {
      expect(context.stdout.text).toContain(part);
    }
  });
});

describe('options', () => {
  test('--config repeats in order, before and after the command', async () => {
    const context = fakeContext();
    await runCli(['--config', 'a.yaml', 'serve', '--config', 'b.yaml', '--log-level', 'debug'], context);
    expect(context.calls).toEqual([
      { call: 'serve', options: { configPaths: ['a.yaml', 'b.yaml'], logLevel: 'debug' } },
    ]);
  });

  test('without --config it is /etc/kacme/kacme.yaml', async () => {
    const context = fakeContext();
    await runCli(['status'], context);
    expect(context.calls[0]?.options).toEqual({
      configPaths: ['/etc/kacme/kacme.yaml'],
      logLevel: undefined,
    });
  });

  test('renew passes names and flags on', async () => {
    const asked: unknown[] = [];
    const context = fakeContext({
      service: {
        renew: async (request) => {
          asked.push(request);
          return DONE;
        },
      },
    });
    await runCli(['renew', 'external', 'internal', '--force', '--dry-run'], context);
    await runCli(['renew'], context);
    expect(asked).toEqual([
      { names: ['external', 'internal'], force: true, dryRun: true },
      { names: [], force: false, dryRun: false },
    ]);
  });

  test('plan passes the days on, 90 unless it is told otherwise', async () => {
    const asked: unknown[] = [];
    const service = {
      calendar: async (request: unknown) => {
        asked.push(request);
        return CALENDAR;
      },
    };
    await runCli(['plan'], fakeContext({ service }));
    await runCli(['plan', '--days', '7'], fakeContext({ service }));
    expect(asked).toEqual([{ days: 90 }, { days: 7 }]);
  });

  test('distribute passes the host on', async () => {
    const asked: unknown[] = [];
    const context = fakeContext({
      service: {
        distribute: async (request) => {
          asked.push(request);
          return DONE;
        },
      },
    });
    await runCli(['distribute', '--host', '10.0.0.12'], context);
    await runCli(['distribute'], context);
    expect(asked).toEqual([{ host: '10.0.0.12' }, { host: undefined }]);
  });
});

describe('exit status', () => {
  test.each([
    { outcome: 'done', status: 0 },
    { outcome: 'partly', status: 3 },
    { outcome: 'failed', status: 1 },
  ] as const)('$status when bootstrap, renew and distribute end $outcome', async ({ outcome, status }) => {
    const answer = async (): Promise<Summary> => ({ ...SUMMARY, outcome });
    const context = fakeContext({ service: { bootstrap: answer, renew: answer, distribute: answer } });
    for (const command of ['bootstrap', 'renew', 'distribute']) {
      expect(await runCli([command], context)).toBe(status);
    }
  });

  test('status ends with 3 while a host is not in sync, 0 when all is well', async () => {
    expect(await runCli(['status'], fakeContext())).toBe(3);
    const healthy = { ...STATUS, hosts: STATUS.hosts.slice(0, 1) };
    expect(await runCli(['status'], fakeContext({ service: { status: async () => healthy } }))).toBe(0);
  });

  test.each([
    { code: 'ERR_CONFIG_UNREADABLE', status: 2 },
    { code: 'ERR_SECRET_UNREADABLE', status: 2 },
    { code: 'ERR_UNKNOWN_NAME', status: 2 },
    { code: 'ERR_CONTROL_REQUEST', status: 2 },
    { code: 'ERR_MANDATE_HELD', status: 1 },
    { code: 'ERR_ABORTED', status: 1 },
  ] as const)('$status for $code, with message and remedy on stderr', async ({ code, status }) => {
    const context = fakeContext({
      connect: async () => {
        throw new KacmeError(code, 'read a.yaml: no such file', { retry: 'never', remedy: 'create it' });
      },
    });
    expect(await runCli(['status'], context)).toBe(status);
    expect(context.stderr.text).toBe('kacme: read a.yaml: no such file\n  what to do: create it\n');
  });

  test.each([
    { outcome: 'done', status: 0 },
    { outcome: 'failed', status: 1 },
    { outcome: 'partly', status: 3 },
  ] as const)('check ends with $status when it is $outcome', async ({ outcome, status }) => {
    const context = fakeContext({ service: { check: async () => ({ ...CHECK, outcome }) } });
    expect(await runCli(['check'], context)).toBe(status);
  });

  test('check shows every finding, and what to do about those that are not ok', async () => {
    const context = fakeContext();
    await runCli(['check'], context);
    expect(context.stdout.text).toMatch(/^dns +cloud\.example\.org +ok +192\.0\.2\.1$/m);
    expect(context.stdout.text).toContain(
      'login of loadbalancers/10.0.0.12: ERR_HOST_UNREACHABLE\n  connect: connection refused\n  what to do: start sshd there\n',
    );
    expect(context.stdout.text).toContain('1 failed, 1 to look at, 1 ok (2026-03-01 12:00Z)');
    const json = fakeContext();
    await runCli(['check', '--json'], json);
    expect(JSON.parse(json.stdout.text)).toMatchObject({ outcome: 'partly', findings: [{}, {}, {}] });
  });

  test('plan ends with 3 when a certificate would expire, 0 when all is well', async () => {
    expect(await runCli(['plan'], fakeContext())).toBe(0);
    const expiring = [{ certificate: 'external', at: '2026-05-01T13:00:00.000Z' }];
    const issuers = CALENDAR.issuers.map((issuer) => ({ ...issuer, expiring }));
    const context = fakeContext({ service: { calendar: async () => ({ ...CALENDAR, issuers }) } });
    expect(await runCli(['plan'], context)).toBe(3);
    expect(context.stdout.text).toContain(
      'external expires at 2026-05-01 13:00Z, before letsencrypt renews it',
    );
  });

  test('a wrong configuration prints its lines as they are, for editors to follow', async () => {
    const lines =
      'kacme.yaml:7:5: certificates.a.key: expected one of ...\nkacme.yaml:9:1: pool: unknown key';
    const context = fakeContext({
      serve: async () => {
        throw new KacmeError('ERR_CONFIG_INVALID', lines, { retry: 'never' });
      },
    });
    expect(await runCli(['serve'], context)).toBe(2);
    expect(context.stderr.text).toBe(`${lines}\n`);
  });

  test('a configuration that a running service cannot take over is refused with what to do', async () => {
    const context = fakeContext({
      service: {
        reloadConfig: async () => {
          throw new KacmeError('ERR_CONFIG_INVALID', 'cannot be taken over: store changed', {
            retry: 'never',
            remedy: 'restart kacme serve',
          });
        },
      },
    });
    expect(await runCli(['reload-config'], context)).toBe(2);
    expect(context.stderr.text).toBe(
      'kacme: cannot be taken over: store changed\n  what to do: restart kacme serve\n',
    );
  });

  test('a first configuration that cannot be written says why, and points to no help', async () => {
    const context = fakeContext();
    expect(await runCli(['config', 'init', '/nowhere/kacme.yaml'], context)).toBe(2);
    expect(context.stderr.text).toMatch(/^kacme: cannot write .*: ENOENT: [^\n]*\n$/);
  });

  test('a defect ends with 1, and shows its stack with --log-level debug only', async () => {
    const service = {
      status: async () => {
        throw new TypeError('x is undefined');
      },
    };
    const quiet = fakeContext({ service });
    expect(await runCli(['status'], quiet)).toBe(1);
    expect(quiet.stderr.text).toContain('kacme: x is undefined');
    expect(quiet.stderr.text).toContain('--log-level debug');
    expect(quiet.stderr.text).not.toContain('    at ');

    const loud = fakeContext({ service });
    await runCli(['status', '--log-level', 'debug'], loud);
    expect(loud.stderr.text).toContain('    at ');
  });

  test('the service is given back when the command fails', async () => {
    const context = fakeContext({
      service: {
        bootstrap: async () => {
          throw new KacmeError('ERR_STORE_UNUSABLE', 'no', { retry: 'never' });
        },
      },
    });
    await runCli(['bootstrap'], context);
    expect(context.calls.map(({ call }) => call)).toEqual(['connect', 'close']);
  });
});

describe('output', () => {
  test.each([
    { argv: ['status', '--json'], expected: STATUS },
    { argv: ['bootstrap', '--json'], expected: SUMMARY },
    { argv: ['renew', '--json'], expected: SUMMARY },
    { argv: ['distribute', '--json'], expected: SUMMARY },
  ])('$argv prints one JSON document', async ({ argv, expected }) => {
    const context = fakeContext();
    await runCli(argv, context);
    expect(JSON.parse(context.stdout.text)).toEqual(JSON.parse(JSON.stringify(expected)));
  });

  test('progress goes to stderr, so that stdout stays readable by machines', async () => {
    const context = fakeContext({
      service: {
        bootstrap: async ({ onProgress }) => {
          onProgress({ message: 'making an account key' });
          return DONE;
        },
      },
    });
    await runCli(['bootstrap', '--json'], context);
    expect(context.stderr.text).toBe('making an account key\n');
    expect(JSON.parse(context.stdout.text)).toEqual(DONE);
  });

  test('a reader that went away ends nothing and says nothing', async () => {
    const context = fakeContext();
    context.stdout._write = (_chunk, _encoding, done: (error?: Error) => void) =>
      done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    expect(await runCli(['bootstrap'], context)).toBe(3);
    expect(context.stderr.text).toBe('');
  });

  test('text that could not be written is a failure', async () => {
    const context = fakeContext();
    context.stdout._write = (_chunk, _encoding, done: (error?: Error) => void) =>
      setImmediate(done, Object.assign(new Error('write ENOSPC'), { code: 'ENOSPC' }));
    expect(await runCli(['status'], context)).toBe(1);
    expect(context.stderr.text).toBe('kacme: write the output: write ENOSPC\n');
  });

  test('reload-config needs a running service', async () => {
    const running = fakeContext();
    expect(await runCli(['reload-config'], running)).toBe(0);
    expect(running.stdout.text).toBe('configuration taken over\n');

    const none = fakeContext({ via: 'direct' });
    expect(await runCli(['reload-config'], none)).toBe(1);
    expect(none.stderr.text).toContain('kacme serve');
  });
});
