import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';
import { runCli } from '../../src/cli/program.ts';
import { selfSigned } from '../support/pem.ts';
import { programs } from '../support/programs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { fakeContext } from '../unit/cli/fake-context.ts';

async function setUp(verify: readonly string[]) {
  const scratch = await scratchDirectory();
  onTestFinished(scratch.remove);
  const at = (name: string) => join(scratch.path, name);
  const pem = selfSigned('site.test').bundlePem;
  for (const name of ['external.pem', 'internal.pem']) await writeFile(at(name), pem, { mode: 0o600 });
  const deployment = (certificate: string) => ({ certificate, pool: 'lb', path: at(`${certificate}.pem`) });
  const certificate = { identifiers: ['site.test'], issuers: ['ca'] };
  await writeFile(
    at('kacme.yaml'),
    stringify({
      issuers: { ca: { directory: 'https://ca.test/directory', termsOfServiceAgreed: true } },
      certificates: { external: certificate, internal: certificate },
      pools: {
        lb: {
          hosts: ['127.0.0.1', '::1'],
          ssh: { user: 'kacme', identity: { file: '/etc/kacme/id' }, knownHosts: '/etc/kacme/known_hosts' },
          haproxy: { socket: at('haproxy.sock'), masterSocket: at('master.sock') },
          verify: { connect: verify },
        },
      },
      deployments: [deployment('external'), deployment('internal')],
      challenge: { listen: '127.0.0.5:8081' },
    }),
  );
  const snippet = async (...args: string[]) => {
    const context = fakeContext();
    const status = await runCli(['haproxy', 'snippet', '--config', at('kacme.yaml'), ...args], context);
    return { status, stdout: context.stdout.text, stderr: context.stderr.text };
  };
  /** HAProxy's own opinion of the text, with the frontend that comes as a comment put to use. */
  const checked = async (text: string) => {
    await writeFile(at('haproxy.cfg'), text.replaceAll(/^#( *bind|frontend https)/gm, '$1'));
    const { haproxy, env } = programs();
    return promisify(execFile)(haproxy, ['-c', '-V', '-f', at('haproxy.cfg')], { env });
  };
  return { at, snippet, checked };
}

describe('kacme haproxy snippet', () => {
  test.each(['127.0.0.1', '::1'])('HAProxy takes what it prints for %s', async (host) => {
    const { at, snippet, checked } = await setUp(['{host}:8444']);
    const { status, stdout } = await snippet('--host', host);
    expect(status).toBe(0);
    expect(await checked(stdout)).toMatchObject({
      stdout: expect.stringContaining('Configuration file is valid'),
    });
    expect(stdout).toContain(`stats socket ${at('haproxy.sock')} mode 660 level admin`);
    const address = host.includes(':') ? `[${host}]` : host;
    expect(stdout).toContain(`bind ${address}:8444 ssl crt ${at('external.pem')} crt ${at('internal.pem')}`);
    expect(stdout).toContain('server kacme 127.0.0.5:8081');
  });

  test('no verification frontend is printed where the port that everybody asks is verified', async () => {
    const { snippet } = await setUp(['{host}:443']);
    expect((await snippet()).stdout).not.toContain('kacme_verify');
  });

  test('a host that is not configured is answered with those that are, exit 2', async () => {
    const { snippet } = await setUp([]);
    expect(await snippet('--host', '10.0.0.9')).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('there are lb (127.0.0.1, ::1)'),
    });
  });
});
