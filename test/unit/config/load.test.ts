import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ConfigError } from '../../../src/config/issue.ts';
import { loadConfig, parseConfig } from '../../../src/config/load.ts';
import { effectivePool } from '../../../src/domain/effective-pool.ts';
import type { KacmeConfig } from '../../../src/domain/model.ts';
import { LETS_ENCRYPT_LIMITS } from '../../../src/domain/rate-limits.ts';
import { scratchDirectory } from '../../support/scratch.ts';
import { mistakesIn, VALID, valid } from './mistakes.ts';

const parse = (...texts: string[]) =>
  parseConfig(texts.map((text, index) => ({ file: `${index}.yaml`, text })));

const issuerOf = (config: KacmeConfig, name: string) => config.issuers[name];
const certificateOf = (config: KacmeConfig, name: string) => config.certificates[name];
const poolOf = (config: KacmeConfig, name: string) => config.pools[name];

describe('a valid configuration', () => {
  test('becomes the declared nouns, with every default filled in', () => {
    expect(parse(VALID)).toEqual({
      issuers: {
        letsencrypt: {
          name: 'letsencrypt',
          directory: 'https://acme-v02.api.letsencrypt.org/directory',
          contact: ['mailto:ops@example.org'],
          termsOfServiceAgreed: true,
          profile: undefined,
          preferredChain: undefined,
          eab: undefined,
          caFile: undefined,
          proxy: undefined,
          timeoutMs: 30_000,
          limits: LETS_ENCRYPT_LIMITS,
        },
      },
      certificates: {
        external: {
          name: 'external',
          identifiers: ['cloud.example.org'],
          issuers: ['letsencrypt'],
          key: 'ecdsa-p256',
          profile: undefined,
          preferredChain: undefined,
          reuseKey: false,
        },
      },
      pools: {
        lb: {
          name: 'lb',
          hosts: [{ name: '10.0.0.11', address: '10.0.0.11', port: 22 }],
          ssh: {
            user: 'haproxy',
            identity: { file: '/k' },
            knownHosts: '/kh',
            connectTimeoutMs: 10_000,
            sftp: 'subsystem',
            jumps: [],
          },
          haproxy: { socket: '/s', masterSocket: undefined },
          verify: { connect: ['{host}:443'], handshakes: 4, timeoutMs: 5_000 },
          reload: undefined,
          parallel: 10,
          stopAfter: 3,
        },
      },
      deployments: [
        {
          certificate: 'external',
          pool: 'lb',
          path: '/p.pem',
          file: '/p.pem',
          copies: [],
          mode: 0o600,
          owner: undefined,
          group: undefined,
          takeOver: false,
        },
      ],
      challenge: {
        listen: { host: '127.0.0.1', port: 8081 },
        resolvers: undefined,
        selfCheck: { via: undefined, passes: 2 },
      },
      operations: { listen: { host: '127.0.0.1', port: 8083 } },
      control: { socket: '/var/lib/kacme/kacme.sock' },
      store: { file: '/var/lib/kacme' },
      reconcile: { everyMs: 20_000 },
      keepBundles: 3,
      log: { level: 'info' },
    });
  });

  test('may be the example of the design, with what does not exist yet taken out', () => {
    const config = parse(`
issuers:
  letsencrypt:
    directory: https://acme-v02.api.letsencrypt.org/directory
    contact: [mailto:ops@example.org]
    termsOfServiceAgreed: true
    profile: tlsserver                     # optional
    eab: { keyId: abc, hmacKey: { file: /etc/kacme/eab.key } }
    caFile: /etc/kacme/private-ca.pem
certificates:
  external:
    identifiers: [cloud.example.org, api.cloud.example.org]
    issuers: [letsencrypt]
    key: ecdsa-p256
pools:
  loadbalancers:
    hosts: [10.0.0.11, 10.0.0.12, "[fd00::13]:2985"]
    ssh: { user: haproxy, port: 2985, identity: { file: /etc/kacme/id_ed25519 }, knownHosts: /etc/kacme/known_hosts }
    haproxy: { socket: /var/lib/kolla/haproxy/haproxy.sock }
    verify: { connect: ["{host}:8444"], handshakes: 4 }
deployments:
  - certificate: external
    pool: loadbalancers
    path: /etc/haproxy/certificates/haproxy.pem
    file: /srv/certificates/haproxy.pem
challenge: { listen: "10.0.0.5:8081", selfCheck: { via: "http://10.0.0.10" } }
operations: { listen: "127.0.0.1:8083" }
store: { file: /var/lib/kacme }
`);
    expect(poolOf(config, 'loadbalancers')?.hosts).toEqual([
      { name: '10.0.0.11', address: '10.0.0.11', port: 2985 },
      { name: '10.0.0.12', address: '10.0.0.12', port: 2985 },
      { name: 'fd00::13', address: 'fd00::13', port: 2985 },
    ]);
    expect(config.challenge).toEqual({
      listen: { host: '10.0.0.5', port: 8081 },
      resolvers: undefined,
      selfCheck: { via: 'http://10.0.0.10', passes: 2 },
    });
    expect(config.deployments[0]?.file).toBe('/srv/certificates/haproxy.pem');
  });

  test.each([
    ['10.0.0.12:2985', { name: '10.0.0.12', address: '10.0.0.12', port: 2985 }],
    ['"[fd00::13]:2985"', { name: 'fd00::13', address: 'fd00::13', port: 2985 }],
    ['"[fd00::13]"', { name: 'fd00::13', address: 'fd00::13', port: 22 }],
    ['fd00::13', { name: 'fd00::13', address: 'fd00::13', port: 22 }],
    ['"[FD00:0:0::0013]:2985"', { name: 'fd00::13', address: 'fd00::13', port: 2985 }],
    ['::ffff:10.0.0.13', { name: '::ffff:10.0.0.13', address: '::ffff:10.0.0.13', port: 22 }],
    ['{ host: fd00::13, name: CTL3 }', { name: 'CTL3', address: 'fd00::13', port: 22 }],
    ['{ host: 10.0.0.13, port: 2222 }', { name: '10.0.0.13', address: '10.0.0.13', port: 2222 }],
    ['controller-1', { name: 'controller-1', address: 'controller-1', port: 22 }],
    [
      'Controller-1.example.org:2985',
      { name: 'controller-1.example.org', address: 'controller-1.example.org', port: 2985 },
    ],
  ])('reads the host %s', (host, expected) => {
    expect(poolOf(parse(valid('10.0.0.11', host)), 'lb')?.hosts).toEqual([expected]);
  });

  test.each([
    ['bastion.example.org', [{}]],
    ['"bastion.example.org:2022"', [{ port: 2022 }]],
    ['jumper@bastion.example.org', [{ user: 'jumper' }]],
    ['{ host: bastion.example.org, identity: { env: B } }', [{ identity: { env: 'B' } }]],
    [
      '["jumper@bastion.example.org", { host: "fd00::1", port: 2022, knownHosts: /kb }]',
      [{ user: 'jumper' }, { address: 'fd00::1', port: 2022, knownHosts: '/kb' }],
    ],
  ])('reads the jump host %s, which has from the pool what is not said', (written, expected) => {
    const inherited = { user: 'haproxy', identity: { file: '/k' }, knownHosts: '/kh' };
    const { jumps } =
      poolOf(parse(valid('user: haproxy', `user: haproxy, port: 2985, jump: ${written}`)), 'lb')?.ssh ?? {};
    expect(jumps).toEqual(
      expected.map((jump) => ({ address: 'bastion.example.org', port: 22, ...inherited, ...jump })),
    );
  });

  test('lets a host differ from its pool in what its entry says, and in nothing else', () => {
    const entry =
      '{ host: 10.0.0.13, user: other, identity: { env: ID }, haproxy: { masterSocket: /m }, verify: { handshakes: 1 } }';
    const pool = poolOf(parse(valid('[10.0.0.11]', `[10.0.0.11, ${entry}]`)), 'lb');
    const [plain, different] = pool?.hosts ?? [];
    if (pool === undefined || plain === undefined || different === undefined)
      throw new Error('the pool has two hosts');
    expect(effectivePool(pool, plain)).toBe(pool);
    expect(effectivePool(pool, different)).toEqual({
      ...pool,
      ssh: { ...pool.ssh, user: 'other', identity: { env: 'ID' } },
      haproxy: { socket: '/s', masterSocket: '/m' },
      verify: { connect: ['{host}:443'], handshakes: 1, timeoutMs: 5_000 },
      // By its own master socket.
      reload: { command: undefined, prepare: undefined, validate: undefined, on: 'host', timeoutMs: 30_000 },
    });
  });

  test.each([
    { reload: 'off', expected: undefined },
    { reload: '{ command: [reload] }', expected: { command: ['reload'] } },
  ])('never reloads a host by its master socket where the pool says $reload', ({ reload, expected }) => {
    const hosts = `[{ host: 10.0.0.13, haproxy: { masterSocket: /m } }]\n    reload: ${reload}`;
    const pool = poolOf(parse(valid('[10.0.0.11]', hosts)), 'lb');
    const [host] = pool?.hosts ?? [];
    if (pool === undefined || host === undefined) throw new Error('the pool has a host');
    const effective = effectivePool(pool, host).reload;
    if (expected === undefined) expect(effective).toBeUndefined();
    else expect(effective).toMatchObject(expected);
  });

  test.each([
    ['Cloud.Example.ORG', 'cloud.example.org'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
  ])('turns the identifier %s into %s', (written, identifier) => {
    expect(certificateOf(parse(valid('cloud.example.org', written)), 'external')?.identifiers).toEqual([
      identifier,
    ]);
  });

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['"2001:0DB8:0:0:0::0007"', '2001:db8::7'],
    ['"2001:db8:0:1:1:1:1:1"', '2001:db8:0:1:1:1:1:1'],
  ])('turns the address %s into %s', (written, identifier) => {
    const text = valid('[cloud.example.org]', `[${written}]\n    profile: shortlived`);
    expect(certificateOf(parse(text), 'external')).toMatchObject({
      identifiers: [identifier],
      profile: 'shortlived',
    });
  });

  test.each([
    ['off', 'off'],
    ['false', 'off'],
    ['direct', { via: undefined, passes: 2 }],
    ['{ passes: 3 }', { via: undefined, passes: 3 }],
    ['{ via: "https://[fd00::10]:8443" }', { via: 'https://[fd00::10]:8443', passes: 2 }],
  ])('takes selfCheck: %s', (written, expected) => {
    expect(parse(`${VALID}challenge: { selfCheck: ${written} }`).challenge.selfCheck).toEqual(expected);
  });

  test('reads resolvers, whose port is 53 unless it is given', () => {
    const text = `${VALID}challenge: { resolvers: [10.0.0.2, "10.0.0.3:5353", "[2606:4700::1111]"] }`;
    expect(parse(text).challenge.resolvers).toEqual([
      { host: '10.0.0.2', port: 53 },
      { host: '10.0.0.3', port: 5353 },
      { host: '2606:4700::1111', port: 53 },
    ]);
  });

  test.each(['off', 'false'])('takes resolvers: %s', (written) => {
    const text = `${VALID}challenge: { resolvers: ${written}, selfCheck: off }`;
    expect(parse(text).challenge.resolvers).toBe('off');
  });

  test.each([
    ['500ms', 500],
    ['2s', 2_000],
    ['1m', 60_000],
  ])('reads the duration %s', (written, ms) => {
    const config = parse(valid('connect: ["{host}:443"]', `timeout: ${written}`));
    expect(poolOf(config, 'lb')?.verify).toEqual({ connect: [], handshakes: 4, timeoutMs: ms });
  });

  test('may have a local pool, without ssh and without hosts', () => {
    const config = parse(
      valid(
        'hosts: [10.0.0.11]\n    ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }',
        'local: true',
      ),
    );
    const pool = poolOf(config, 'lb');
    expect(pool?.ssh).toBeUndefined();
    expect(pool?.hosts).toEqual([{ name: '127.0.0.1', address: '127.0.0.1', port: 22 }]);
  });

  test('may use anchors and aliases', () => {
    const text = VALID.replace('[cloud.example.org]', '&names [cloud.example.org]').replace(
      'pools:',
      '  internal: { identifiers: *names, issuers: [letsencrypt], key: rsa-2048 }\npools:',
    );
    expect(certificateOf(parse(text), 'internal')?.identifiers).toEqual(['cloud.example.org']);
  });
});

describe('overlays', () => {
  test('merge maps, replace lists and scalars, and remove with null', () => {
    const config = parse(
      VALID.replace('termsOfServiceAgreed', 'profile: tlsserver\n    termsOfServiceAgreed'),
      `
issuers: { letsencrypt: { profile: null, contact: [] } }
certificates: { internal: { identifiers: [i.example.org], issuers: [letsencrypt] } }
pools: { lb: { hosts: [10.0.0.21, 10.0.0.22], ssh: { port: 2985 } } }
log: { level: debug }
`,
      'log: { level: null }\ncertificates: { internal: null }\n',
    );
    expect(issuerOf(config, 'letsencrypt')).toMatchObject({ profile: undefined, contact: [] });
    expect(Object.keys(config.certificates)).toEqual(['external']);
    expect(poolOf(config, 'lb')?.hosts.map(({ address, port }) => `${address}:${port}`)).toEqual([
      '10.0.0.21:2985',
      '10.0.0.22:2985',
    ]);
    expect(poolOf(config, 'lb')?.ssh?.user).toBe('haproxy');
    expect(config.log.level).toBe('info');
  });

  test('are judged together, and each mistake names the file that holds it', () => {
    const mistakes = mistakesIn(
      { file: 'base.yaml', text: VALID.replace('lb:', 'loadbalancers:') },
      { file: 'site.yaml', text: 'certificates:\n  external:\n    issuers: [acme]\nlog: { level: loud }\n' },
    );
    expect(mistakes).toEqual([
      'base.yaml:19:11: deployments[0].pool: no pool has the name "lb"; there are loadbalancers',
      'site.yaml:3:15: certificates.external.issuers[0]: no issuer has the name "acme"; there are letsencrypt',
      'site.yaml:4:15: log.level: expected one of trace, debug, info, warn, error',
    ]);
  });

  test('may be empty files', () => {
    expect(parse(VALID, '', '# nothing here\n', '---\n')).toEqual(parse(VALID));
  });
});

describe('a wrong configuration', () => {
  test('gives one message for each of five mistakes, in the order of the file', () => {
    const mistakes = mistakesIn(`issuers:
  letsencrypt:
    directory: https://acme-v02.api.letsencrypt.org/directory
    termsOfServiceAgreed: false
certificates:
  external:
    identifiers: ["*.example.org"]
    issuers: [letsencrpyt]
    key: ecdsa-p265
pools:
  lb:
    hosts: [10.0.0.11]
    ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }
    haproxy: { socket: /s }
    paralel: 3
deployments: []
`);
    expect(mistakes).toEqual([
      '4:27: issuers.letsencrypt.termsOfServiceAgreed: expected true: a CA registers no account before its terms of service, which its directory names, were read and agreed to',
      '7:19: certificates.external.identifiers[0]: wildcards need DNS-01 challenges, which do not exist in kacme yet: list each name',
      '8:15: certificates.external.issuers[0]: no issuer has the name "letsencrpyt"; did you mean "letsencrypt"?',
      '9:10: certificates.external.key: expected one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096; did you mean "ecdsa-p256"?',
      '15:5: pools.lb.paralel: unknown key; did you mean "parallel"?',
    ]);
  });

  test('carries its issues, is never retried, and its message has a line for each', () => {
    const text = valid('path: /p.pem', 'path: p.pem');
    const error = thrownBy(() =>
      parseConfig([{ file: './my.yaml', text: text.replace('user: haproxy, ', '') }]),
    );
    expect(error).toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      retry: 'never',
      issues: [
        { file: './my.yaml', line: 14, column: 5, path: 'pools.lb.ssh.user' },
        {
          file: './my.yaml',
          line: 20,
          column: 11,
          path: 'deployments[0].path',
          message: 'expected an absolute path',
        },
      ],
    });
    expect(error.message.split('\n')).toHaveLength(2);
    expect(error.remedy).toContain('kacme config check');
  });

  test.each([
    {
      mistake: 'a missing key is reported where its map begins',
      text: valid('    key: ecdsa-p256\n', '').replace('    issuers: [letsencrypt]\n', ''),
      expected: ['7:3: certificates.external.issuers: is required: expected a list of names of issuers'],
    },
    {
      mistake: 'a key without a value is reported as missing, at the key',
      text: valid('https://acme-v02.api.letsencrypt.org/directory', ''),
      expected: [
        '3:5: issuers.letsencrypt.directory: is required: expected an https URL, such as https://acme-v02.api.letsencrypt.org/directory',
      ],
    },
    {
      mistake: 'a missing key of a list entry is reported at the entry',
      text: valid('    pool: lb\n', ''),
      expected: ['18:5: deployments[0].pool: is required: expected the name of a pool'],
    },
    {
      mistake: 'an unknown key is reported even without a value',
      text: `${VALID}proflie:\n`,
      expected: [
        '21:1: proflie: unknown key; expected one of issuers, certificates, pools, deployments, challenge, operations, control, store, reconcile, keepBundles, log',
      ],
    },
    {
      mistake: 'a duplicate key names the line of the first',
      text: valid('    pool: lb\n', '    pool: lb\n    pool: lb\n'),
      expected: ['20:5: deployments[0].pool: given twice, first in line 19'],
    },
    {
      mistake: 'an unquoted IPv6 address with a port is explained once',
      text: valid('10.0.0.11', '[fd00::13]:2985'),
      expected: [
        '13:13: pools.lb.hosts[0]: YAML reads brackets and braces here as a list or a map: put the text in quotes',
      ],
    },
    {
      mistake: 'a file that is no map',
      text: '- a\n',
      expected: ['1:1: expected a map of keys such as issuers, certificates, pools'],
    },
    {
      mistake: 'an alias inside its own anchor',
      text: `${VALID}log: &log { level: *log }\n`,
      expected: ['21:20: log.level: the alias *log stands inside what it stands for'],
    },
    {
      mistake: 'a second document',
      text: `${VALID}---\na: 1\n`,
      expected: ['21:1: a second YAML document begins here: use one file for each, with --config'],
    },
    {
      mistake: 'a tag of another program',
      text: valid('/p.pem', '!vault /p.pem'),
      expected: ['20:11: Unresolved tag: !vault'],
    },
  ])('$mistake', ({ text, expected }) => {
    expect(mistakesIn(text)).toEqual(expected);
  });

  test('reports a syntax error with the mistakes before it, and guesses nothing behind it', () => {
    const text = `log: { level: loud }\n${VALID}operations: { listen: [::1]:8083 }\nfoo: bar\n`;
    expect(mistakesIn(text)).toEqual([
      '1:15: log.level: expected one of trace, debug, info, warn, error',
      expect.stringMatching(
        /^22:\d+: Missing , between flow map items \(text with brackets, braces or ": " needs quotes\)$/,
      ),
    ]);
  });

  test('reports syntax errors of every file, and calls nothing missing that may be behind them', () => {
    const mistakes = mistakesIn(
      { file: 'a.yaml', text: 'issuers: [\n' },
      { file: 'b.yaml', text: 'pools: {\nlog: { level: loud }\n' },
      { file: 'c.yaml', text: 'log: { level: loud }\n' },
    );
    expect(mistakes.map((line) => line.split(':').slice(0, 2).join(':'))).toEqual(
      expect.arrayContaining(['a.yaml:2', 'c.yaml:1']),
    );
    expect(mistakes.join('\n')).not.toContain('is required');
  });

  test.each([
    'hmacKey: hunter2',
    'hmacKey: [hunter2]',
    'hmacKey: { file: hunter2 }',
    'hmacKey: { hunter2: }',
  ])('does not repeat a secret that stands where its reference belongs (%s)', (key) => {
    const text = valid('    termsOf', `    eab: { keyId: abc, ${key} }\n    termsOf`);
    const mistakes = mistakesIn(text.replace('hunter2:', 'hunter: hunter2'));
    expect(mistakes.length).toBeGreaterThan(0);
    expect(mistakes.join('\n')).not.toContain('hunter2');
  });
});

describe('reading files', () => {
  test('prints paths as the operator gave them', async ({ signal }) => {
    const { path } = await scratch();
    await mkdir(join(path, 'sub'));
    const given = `${path}/sub/../kacme.yaml`;
    await writeFile(given, valid('/p.pem', 'p.pem'));
    await expect(loadConfig([given], { signal })).rejects.toThrow(`${given}:20:11: deployments[0].path: `);
  });

  test('names every file that cannot be read, with a remedy', async ({ signal }) => {
    const { path } = await scratch();
    const failure = loadConfig([join(path, 'none.yaml'), path], { signal });
    await expect(failure).rejects.toMatchObject({
      code: 'ERR_CONFIG_UNREADABLE',
      retry: 'never',
      message: expect.stringMatching(/none\.yaml: ENOENT.*\n.*EISDIR/),
      remedy: expect.stringContaining('kacme config init'),
    });
    await expect(failure).rejects.not.toBeInstanceOf(ConfigError);
  });

  test('reads several files in their order', async ({ signal }) => {
    const { path } = await scratch();
    const files = [join(path, 'base.yaml'), join(path, 'site.yaml')];
    await writeFile(files[0] ?? '', VALID);
    await writeFile(files[1] ?? '', 'keepBundles: 0\n');
    await chmod(files[1] ?? '', 0o600);
    expect((await loadConfig(files, { signal })).keepBundles).toBe(0);
  });

  test('ends with the reason of an abort', async () => {
    const reason = new Error('stop');
    await expect(loadConfig(['/nowhere'], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

async function scratch() {
  const directory = await scratchDirectory();
  onTestFinished(() => directory.remove());
  return directory;
}

function thrownBy(action: () => unknown): ConfigError {
  try {
    action();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
