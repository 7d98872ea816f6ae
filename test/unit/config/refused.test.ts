import { describe, expect, test } from 'vitest';
import { mistakesIn, VALID, valid } from './mistakes.ts';

/** The message alone, of a configuration with one mistake. */
function mistake(text: string): string {
  const mistakes = mistakesIn(text);
  expect(mistakes).toHaveLength(1);
  return mistakes[0]?.replace(/^\d+:\d+: /, '') ?? '';
}

const pool = 'pools.lb';
const deployment = 'deployments[0]';

describe('what is planned and does not exist yet is refused by name', () => {
  const absent = 'does not exist in kacme yet';
  test.each([
    ['store.etcd', `${VALID}store: { etcd: { endpoints: [a] } }`, `store.etcd: ${absent}`],
    ['store.encryptionKey', `${VALID}store: { encryptionKey: { env: K } }`, `store.encryptionKey: ${absent}`],
    [
      'challenge.type',
      `${VALID}challenge: { type: dns-01 }`,
      `challenge.type: ${absent}: HTTP-01 is the only`,
    ],
    ['challenge.dns', `${VALID}challenge: { dns: {} }`, `challenge.dns: ${absent}: HTTP-01 is the only`],
    [
      'a challenge of one certificate',
      valid('    key', '    challenge: dns-01\n    key'),
      `certificates.external.challenge: ${absent}: HTTP-01 is the only`,
    ],
    ['pools.NAME.jump', valid('    verify', '    jump: 10.0.0.1\n    verify'), `${pool}.jump: ${absent}`],
    [
      'pools.NAME.overrides',
      valid('    verify', '    overrides: {}\n    verify'),
      `${pool}.overrides: ${absent}: what is different about a host stands with it`,
    ],
  ])('%s', (_what, text, expected) => {
    expect(mistake(text)).toContain(expected);
  });
});

describe('a rehearsal is refused', () => {
  const staging = (more = '') =>
    `  le-staging: { directory: https://acme-staging-v02.api.letsencrypt.org/directory, termsOfServiceAgreed: true${more} }\n`;
  const first = (name: string, more = '') =>
    valid('    contact', `    stagingFirst: ${name}\n    contact`).replace(
      'certificates:',
      `${staging(more)}certificates:`,
    );
  const path = 'issuers.letsencrypt.stagingFirst';
  test.each([
    ['at an unknown issuer', first('le-stagin'), `${path}: no issuer has the name "le-stagin"; did you mean`],
    ['at the issuer itself', first('letsencrypt'), `${path}: expected another issuer than this one`],
    ['that is no name', first('[le-staging]'), `${path}: expected the name of another issuer`],
    [
      'that would be rehearsed itself',
      first('le-staging', ', stagingFirst: third').replace(
        'certificates:',
        `${staging().replace('le-staging', 'third').replace('staging-v02', 'third')}certificates:`,
      ),
      `${path}: issuer "le-staging" has a stagingFirst itself`,
    ],
    [
      'at the same directory',
      first('le-staging').replace('acme-staging-v02', 'acme-v02'),
      `${path}: issuer "le-staging" has the same directory`,
    ],
  ])('%s', (_what, text, expected) => {
    expect(mistake(text)).toContain(expected);
  });

  test('and accepted at another issuer', () => {
    expect(mistakesIn(first('le-staging'))).toEqual([]);
  });
});

describe('a maintenance window is refused', () => {
  const given = (value: string) => valid('    verify', `    maintenanceWindow: ${value}\n    verify`);
  const at = `${pool}.maintenanceWindow`;
  test.each([
    ['without days', '{ days: [], from: "02:00", to: "04:00" }', `${at}.days: expected at least one day`],
    [
      'on an unknown day',
      '{ days: [sa], from: "02:00", to: "04:00" }',
      `${at}.days[0]: expected one of mon, tue`,
    ],
    [
      'at a time that is none',
      '{ days: [sat], from: "24:00", to: "04:00" }',
      `${at}.from: expected a time of day`,
    ],
    [
      'without length',
      '{ days: [sat], from: "02:00", to: "02:00" }',
      `${at}.to: expected a window of at least 15`,
    ],
    [
      'in an unknown zone',
      '{ days: [sat], from: "02:00", to: "04:00", timezone: Europe/Bonn }',
      `${at}.timezone: expected the name of a time zone`,
    ],
  ])('%s', (_what, value, expected) => {
    expect(mistake(given(value))).toContain(expected);
  });
});

describe('a crt-list is refused', () => {
  test.each([
    ['that is the bundle itself', 'crtList: /p.pem', `${deployment}.crtList: is the path of a bundle`],
    ['without the name HAProxy knows it by', 'crtListFile: /l', `${deployment}.crtListFile: needs crtList`],
    [
      'that HAProxy could not be told',
      'crtList: "/l;quit"',
      `${deployment}.crtList: HAProxy's runtime API takes only`,
    ],
  ])('%s', (_what, line, expected) => {
    expect(mistake(valid('    path', `    ${line}\n    path`))).toContain(expected);
  });
});

describe('handshakes through SSH are refused', () => {
  const through = (where: string) => `{ connect: ["{host}:443"], through: ${where} }`;
  test.each([
    [
      'from a jump host that there is none of',
      valid('{ connect: ["{host}:443"] }', through('jump')),
      'pools.lb.verify.through: needs ssh.jump',
    ],
    [
      'of one host from a jump host that there is none of',
      valid('[10.0.0.11]', `[{ host: 10.0.0.11, verify: ${through('jump')} }]`),
      'pools.lb.hosts[0].verify.through: needs ssh.jump',
    ],
    [
      'from elsewhere',
      valid('{ connect: ["{host}:443"] }', through('bastion')),
      'expected one of direct, host, jump',
    ],
  ])('%s', (_what, text, expected) => {
    expect(mistake(text)).toContain(expected);
  });
});

describe('a reload is refused', () => {
  const reload = (value: string) => valid('    verify', `    reload: ${value}\n    verify`);
  test.each([
    [
      'through a master socket that is not given',
      'masterSocket',
      'needs haproxy.masterSocket, or a command: ',
    ],
    ['with a validation alone', '{ validate: [haproxy, -c] }', 'needs haproxy.masterSocket, or a command: '],
    [
      'as a line for a shell',
      '"systemctl reload haproxy"',
      'expected masterSocket, off, or { command: [...] }',
    ],
    [
      'with a line in the place of arguments',
      '{ command: "systemctl reload" }',
      'expected the arguments of a command as a list',
    ],
    ['with an empty command', '{ command: [] }', 'expected the arguments of a command as a list'],
    ['with a number that is not text', '{ command: [kill, 12] }', 'expected text: quote numbers'],
    ['somewhere else', '{ command: [x], on: vip }', 'expected one of host, kacme'],
  ])('%s', (_what, value, expected) => {
    expect(mistake(reload(value))).toContain(expected);
  });
});

describe('an issuer is refused', () => {
  const issuer = 'issuers.letsencrypt';
  const extra = (key: string) => valid('    contact', `    ${key}\n    contact`);
  test.each([
    ['without https', valid('https://acme', 'http://acme'), `${issuer}.directory: expected an https URL`],
    [
      'with a password in its URL',
      valid('https://acme', 'https://me:hunter2@acme'),
      `${issuer}.directory: a URL holds no user name or password here`,
    ],
    [
      'with a bare mail address',
      valid('mailto:', ''),
      `${issuer}.contact[0]: expected an address such as mailto:`,
    ],
    [
      'with mail headers in a contact',
      valid('example.org]', 'example.org?subject=x]'),
      `${issuer}.contact[0]: `,
    ],
    [
      'when its terms are not agreed to',
      valid('Agreed: true', 'Agreed: false'),
      `${issuer}.termsOfServiceAgreed: expected true: `,
    ],
    [
      'when yes is text in YAML 1.2',
      valid('Agreed: true', 'Agreed: yes'),
      `${issuer}.termsOfServiceAgreed: expected true: `,
    ],
    [
      'with the password of a proxy in its URL',
      extra('proxy: http://kacme:secret@proxy.test:3128'),
      `${issuer}.proxy: expected { url: URL, user: NAME, password: { file: PATH } }: a URL holds no`,
    ],
    ['with a proxy that is no URL', extra('proxy: proxy.test:3128'), `${issuer}.proxy: expected `],
    [
      'with the user of a proxy and no password',
      extra('proxy: { url: http://proxy.test, user: kacme }'),
      `${issuer}.proxy.password: is required`,
    ],
    [
      'with a preferred chain of no name',
      extra('preferredChain: ""'),
      `${issuer}.preferredChain: expected the common name of a root`,
    ],
    ['with a relative caFile', extra('caFile: ca.pem'), `${issuer}.caFile: expected an absolute path`],
    [
      'with an external account without its key',
      extra('eab: { keyId: abc }'),
      `${issuer}.eab.hmacKey: is required`,
    ],
    [
      'with two references to one secret',
      extra('eab: { keyId: a, hmacKey: { file: /k, env: K } }'),
      `${issuer}.eab.hmacKey: expected either file or env`,
    ],
    [
      'with no reference to a secret',
      extra('eab: { keyId: a, hmacKey: {} }'),
      `${issuer}.eab.hmacKey: expected either file or env`,
    ],
    [
      'with a timeout without a unit',
      extra('timeout: 30'),
      `${issuer}.timeout: expected a duration with a unit`,
    ],
    [
      'with a timeout out of bounds',
      extra('timeout: 1h'),
      `${issuer}.timeout: expected a duration from 1s to 10m`,
    ],
    [
      'with a limit that does not exist',
      extra('limits: { orderPerAccount: { count: 3, per: 1h } }'),
      `${issuer}.limits.orderPerAccount: expected one of ordersPerAccount, certificatesPerDomain, `,
    ],
    [
      'with a limit without its time',
      extra('limits: { ordersPerAccount: { count: 3 } }'),
      `${issuer}.limits.ordersPerAccount.per: is required`,
    ],
    [
      'with a limit of nothing',
      extra('limits: { ordersPerAccount: { count: 0, per: 1h } }'),
      `${issuer}.limits.ordersPerAccount.count: expected a whole number from 1 to 1000000`,
    ],
    ['with limits that are a number', extra('limits: 3'), `${issuer}.limits: expected none, or a map`],
  ])('%s', (_when, text, expected) => {
    expect(mistake(text)).toContain(expected);
  });
});

describe("what Let's Encrypt would refuse is refused", () => {
  const names = (count: number) =>
    `[${Array.from({ length: count }, (_, i) => `n${i}.example.org`).join(', ')}]`;
  const ordering = (identifiers: string, profile?: string) =>
    valid(
      '[cloud.example.org]',
      profile === undefined ? identifiers : `${identifiers}\n    profile: ${profile}`,
    );
  test.each([
    ['101 names', ordering(names(101)), 100, 'at most 100 identifiers with the profile classic, its default'],
    [
      '26 names and tlsserver',
      ordering(names(26), 'tlsserver'),
      25,
      'at most 25 identifiers with the profile tlsserver',
    ],
    [
      '26 names and shortlived',
      ordering(names(26), 'shortlived'),
      25,
      'at most 25 identifiers with the profile shortlived',
    ],
    [
      "26 names and the issuer's profile",
      ordering(names(26)).replace('    contact', '    profile: tlsserver\n    contact'),
      25,
      'at most 25 identifiers with the profile tlsserver',
    ],
  ])('%s', (_what, text, index, expected) => {
    expect(mistake(text)).toContain(
      `certificates.external.identifiers[${index}]: issuer letsencrypt: Let's Encrypt takes ${expected}`,
    );
    expect(mistakesIn(text)[0]).toMatch(/^\d+:\d+: /);
  });

  test.each([
    ['an IPv4 address', '192.0.2.1', undefined, 'classic, its default'],
    ['an IPv6 address', '"2001:DB8::1"', 'tlsserver', 'tlsserver'],
  ])('%s without the profile shortlived', (_what, address, profile, named) => {
    expect(mistake(ordering(`[cloud.example.org, ${address}]`, profile))).toContain(
      `certificates.external.identifiers[1]: issuer letsencrypt: Let's Encrypt certifies IP addresses with the profile shortlived only, not with ${named}`,
    );
  });

  test.each([
    ['addresses and shortlived', ordering('[192.0.2.1, "2001:db8::1"]', 'shortlived')],
    ['25 names and tlsserver', ordering(names(25), 'tlsserver')],
    ['100 names', ordering(names(100))],
    ['101 names elsewhere', ordering(names(101)).replace('acme-v02.api.letsencrypt.org', 'ca.example.org')],
    ['26 names and a profile that is new', ordering(names(26), 'brand-new')],
    [
      "a profile of the certificate in place of the issuer's",
      ordering(names(26), 'classic').replace('    contact', '    profile: tlsserver\n    contact'),
    ],
  ])('but not %s', (_what, text) => {
    expect(mistakesIn(text)).toEqual([]);
  });
});

describe('an identifier is refused', () => {
  test.each([
    ['"*.example.org"', 'wildcards need DNS-01'],
    ['10.0.0.256', 'not a DNS name'],
    ['"[2001:db8::1]"', 'expected an IPv6 address without brackets'],
    ['"fe80::1%eth0"', 'an IP address with a zone'],
    ['"::ffff:192.0.2.1"', 'an IPv4 address is written as such'],
    ['"2001:db8::1::2"', 'expected a DNS name or an IP address alone'],
    ['192.0.2.0/24', 'expected a DNS name or an IP address alone'],
    ['"0x7f.1"', 'an IPv4 address is written as four decimal numbers, here 127.0.0.1'],
    ['"192.0.2.010"', 'an IPv4 address is written as four decimal numbers, here 192.0.2.8'],
    ['https://example.org', 'expected a DNS name or an IP address alone'],
    ['"example.org:443"', 'expected a DNS name or an IP address alone'],
    ['ops@example.org', 'expected a DNS name or an IP address alone'],
    ['example.org.', 'expected a DNS name without the final dot'],
    ['a_b.example.org', 'not a DNS name'],
    ['a..example.org', 'not a DNS name'],
    ['-a.example.org', 'not a DNS name'],
    ['""', 'not a DNS name'],
    [`${'a'.repeat(64)}.example.org`, 'not a DNS name'],
    ['7', 'expected a DNS name'],
    ['[a.example.org]', 'expected a DNS name'],
  ])('%s', (written, expected) => {
    const text = valid('[cloud.example.org]', `[${written}]`);
    expect(mistake(text)).toContain(`certificates.external.identifiers[0]: ${expected}`);
  });

  test('that is there twice in other letters', () => {
    const text = valid('[cloud.example.org]', '[bücher.example, XN--bcher-kva.example]');
    expect(mistake(text)).toBe('certificates.external.identifiers[1]: the same as entry 0');
  });

  test('that is the same address in another spelling', () => {
    const text = valid(
      '[cloud.example.org]',
      '["2001:db8::1", "2001:0DB8:0:0::0001"]\n    profile: shortlived',
    );
    expect(mistake(text)).toBe('certificates.external.identifiers[1]: the same as entry 0');
  });
});

describe('a host is refused', () => {
  test.each([
    ['10.0.0.256', 'neither an IP address nor a host name'],
    ['"10.0.0.11:0"', 'a port is a number from 1 to 65535'],
    ['"10.0.0.11:65536"', 'a port is a number from 1 to 65535'],
    ['"10.0.0.11:"', 'a port is a number from 1 to 65535'],
    ['"fd00::13:zz"', 'not an address: IPv6 with a port'],
    ['"[10.0.0.11]:22"', 'no IPv6 address stands in the brackets'],
    ['haproxy@10.0.0.11', 'neither an IP address nor a host name'],
    ['11', 'expected an address, such as'],
    ['"fe80::1%eth0"', 'a zone id (%...) is the number or name of an interface of one machine alone'],
    ['"[fe80::1%2]:22"', 'a zone id (%...) is'],
  ])('%s', (written, expected) => {
    expect(mistake(valid('10.0.0.11', written))).toContain(`${pool}.hosts[0]: ${expected}`);
  });

  test.each([
    ['{ port: 22 }', '.host: is required: expected an address without a port'],
    ['{ host: "10.0.0.11:22" }', '.host: give the port beside it, as `port`'],
    ['{ host: 10.0.0.11, prot: 22 }', '.prot: unknown key; '],
    ['{ host: 10.0.0.11, name: "a b" }', '.name: expected a name of letters, digits,'],
    ['{ host: 10.0.0.11, port: 0 }', '.port: expected a whole number from 1 to 65535'],
    ['{ host: 10.0.0.11, haproxy: { socket: s } }', '.haproxy.socket: expected an absolute path'],
    ['{ host: 10.0.0.11, verify: { connect: [a] } }', '.verify.connect[0]: expected a port too'],
  ])('with settings such as %s', (written, expected) => {
    expect(mistake(valid('10.0.0.11', written))).toContain(`${pool}.hosts[0]${expected}`);
  });

  test('that has the name of another one', () => {
    expect(mistake(valid('10.0.0.11', '10.0.0.11, { host: 10.0.0.12, name: 10.0.0.11 }'))).toBe(
      `${pool}.hosts[1]: the same as entry 0`,
    );
    const named = '10.0.0.11, { host: 10.0.0.11, port: 2222, name: second }';
    expect(mistakesIn(valid('10.0.0.11', named))).toEqual([]);
  });

  test('with a login of its own, though it is this machine', () => {
    const text = valid(
      'hosts: [10.0.0.11]\n    ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }',
      'local: true\n    hosts: [{ host: 127.0.0.1, user: root }]',
    );
    expect(mistake(text)).toBe(`${pool}.hosts[0].user: remove it: a local pool is this machine alone`);
  });

  test('that is there twice, also with another port', () => {
    expect(mistake(valid('10.0.0.11', 'fd00::1, "[FD00::1]:2985"'))).toBe(
      `${pool}.hosts[1]: the same as entry 0`,
    );
  });

  test('whose HAProxy is in another pool already', () => {
    const other = `  other:
    hosts: [10.0.0.12, "10.0.0.11:22"]
    ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }
    haproxy: { masterSocket: /m, socket: /s }
deployments:`;
    expect(mistake(valid('deployments:', other))).toContain(
      'pools.other.hosts[1]: its HAProxy is in pool "lb" already',
    );
    expect(mistakesIn(valid('deployments:', other.replace('socket: /s', 'socket: /t')))).toEqual([]);
    const elsewhere = other.replace('ssh: { user', 'ssh: { jump: bastion, user');
    expect(mistakesIn(valid('deployments:', elsewhere))).toEqual([]);
    const apart = other.replace('"10.0.0.11:22"', '{ host: 10.0.0.11, haproxy: { socket: /t } }');
    expect(mistakesIn(valid('deployments:', apart))).toEqual([]);
  });
});

describe('where hosts are learned from is refused', () => {
  test.each([
    ['{}', ': expected dns, srv or file: where the hosts are learned from'],
    ['{ dns: a.test, srv: _s._tcp.a.test }', ': expected one of dns, srv: a pool has one source'],
    ['{ dns: 10.0.0.11 }', '.dns: expected a DNS name: an address stands in a list'],
    ['{ srv: "a.test:22" }', '.srv: expected a DNS name without a port'],
    ['{ dns: "*.a.test" }', '.dns: expected a DNS name, such as haproxy.example.org'],
    ['{ dns: 5 }', '.dns: expected a DNS name, such as haproxy.example.org'],
    ['{ file: hosts }', '.file: expected an absolute path'],
    ['{ file: /hosts, refresh: 1m }', '.refresh: remove it: a file is watched'],
    ['{ dns: a.test, refresh: 2h }', '.refresh: expected a duration from 1s to 1h'],
    ['{ dns: a.test, resolvers: [ns.test] }', '.resolvers[0]: expected an IP address'],
    ['{ dns: a.test, resolvers: [] }', '.resolvers: expected at least one DNS resolver'],
    ['{ dns: a.test, name: lb }', '.name: unknown key; expected one of dns, srv, file, refresh, resolvers'],
    ['a.test', ': expected a list of hosts, such as [10.0.0.11, "10.0.0.12:2985"], or { srv: '],
    ['[10.0.0.256]', '[0]: neither an IP address nor a host name'],
  ])('%s', (written, expected) => {
    expect(mistake(valid('[10.0.0.11]', written))).toContain(`${pool}.hosts${expected}`);
  });

  test('in a local pool', () => {
    const ssh = 'ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }';
    const local = valid(`hosts: [10.0.0.11]\n    ${ssh}`, 'local: true\n    hosts: { dns: a.test }');
    expect(mistake(local)).toContain(`${pool}.hosts: remove it: a local pool is this machine alone`);
  });
});

describe('a jump host is refused', () => {
  test.each([
    ['"@10.0.0.1"', ': expected the name of a user before the @'],
    ['"a@b@10.0.0.1"', ': expected the name of a user before the @'],
    ['"kacme@10.0.0.256"', ': neither an IP address nor a host name'],
    ['"kacme@[fe80::1%eth0]:22"', ': a zone id (%...) is'],
    ['11', ': expected a jump host: "user@bastion.example.org:22", or { host: ADDRESS }, or a list'],
    ['{ port: 22 }', '.host: is required: expected an address without a port'],
    [
      '{ host: b, agent: true }',
      '.agent: unknown key; expected one of host, port, user, identity, knownHosts',
    ],
    ['[]', ': expected one to four jump hosts'],
    ['[a, b, c, d, e]', ': expected one to four jump hosts'],
    ['[a, 11]', '[1]: expected a jump host: '],
    ['[a, { host: b, user: "-o" }]', '[1].user: expected the name of a user'],
  ])('%s', (written, expected) => {
    expect(mistake(valid('user: haproxy', `user: haproxy, jump: ${written}`))).toContain(
      `${pool}.ssh.jump${expected}`,
    );
  });
});

describe('a pool is refused', () => {
  const ssh = 'ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }';
  test.each([
    [
      'without hosts',
      valid('    hosts: [10.0.0.11]\n', ''),
      `${pool}.hosts: is required unless the pool has local: true`,
    ],
    ['with an empty list of hosts', valid('[10.0.0.11]', '[]'), `${pool}.hosts: expected at least one host`],
    ['without ssh', valid(`    ${ssh}\n`, ''), `${pool}.ssh: is required unless the pool has local: true`],
    ['with ssh though local', valid('    hosts', '    local: true\n    hosts'), `${pool}.ssh: remove it`],
    [
      'with two hosts though local',
      valid(`hosts: [10.0.0.11]\n    ${ssh}`, 'local: true\n    hosts: [a, b]'),
      `${pool}.hosts[1]: expected at most one host`,
    ],
    [
      'with local: yes',
      valid('    hosts', '    local: yes\n    hosts'),
      `${pool}.local: expected true or false: YAML 1.2 reads yes`,
    ],
    [
      'with a literal private key',
      valid('{ file: /k }', 'hunter2'),
      `${pool}.ssh.identity: expected a reference, { file: PATH }`,
    ],
    ['without pinned host keys', valid(', knownHosts: /kh', ''), `${pool}.ssh.knownHosts: is required`],
    [
      'with another way to SFTP',
      valid('/kh }', '/kh, sftp: scp }'),
      `${pool}.ssh.sftp: expected subsystem, or { exec: PATH }`,
    ],
    [
      'with a relative sftp-server',
      valid('/kh }', '/kh, sftp: { exec: x } }'),
      `${pool}.ssh.sftp.exec: expected an absolute path`,
    ],
    [
      'without a socket',
      valid('{ socket: /s }', '{}'),
      `${pool}.haproxy: expected socket, masterSocket or both`,
    ],
    [
      'with a socket path that no socket can have',
      valid('/s }', `/${'s'.repeat(107)} }`),
      `${pool}.haproxy.socket: the path of a UNIX socket has at most 107 bytes`,
    ],
    [
      'with a verification address without a port',
      valid('{host}:443', '{host}'),
      `${pool}.verify.connect[0]: expected a port too`,
    ],
    [
      'with no handshakes',
      valid('connect', 'handshakes: 0, connect'),
      `${pool}.verify.handshakes: expected a whole number from 1 to 100`,
    ],
    [
      'with text as a number',
      valid('    verify', '    parallel: "5"\n    verify'),
      `${pool}.parallel: expected a whole number from 1 to 100`,
    ],
    [
      'with a name that no key of the store can have',
      valid('  lb:', '  Load Balancers:').replace('pool: lb', 'pool: Load Balancers'),
      'pools["Load Balancers"]: expected a name of lower-case letters',
    ],
  ])('%s', (_when, text, expected) => {
    expect(mistake(text)).toContain(expected);
  });
});

describe('a deployment is refused', () => {
  const second = (keys: string) => `${VALID}  - { certificate: external, pool: lb, ${keys} }\n`;
  test.each([
    [
      'of an unknown certificate',
      valid('certificate: external', 'certificate: externa'),
      `${deployment}.certificate: no certificate has the name "externa"; did you mean "external"?`,
    ],
    [
      'to an unknown pool',
      valid('pool: lb', 'pool: db'),
      `${deployment}.pool: no pool has the name "db"; did you mean "lb"?`,
    ],
    ['to a relative path', valid('/p.pem', 'p.pem'), `${deployment}.path: expected an absolute path`],
    [
      'to a path with detours',
      valid('/p.pem', '/etc/../p.pem'),
      `${deployment}.path: a path holds no "." or ".." here`,
    ],
    ['to a directory', valid('/p.pem', '/etc/'), `${deployment}.path: a path holds no empty step`],
    [
      'to a path that HAProxy would take for two commands',
      valid('/p.pem', '"/p.pem;show env"'),
      `${deployment}.path: HAProxy's runtime API takes only`,
    ],
    [
      'with a mode open to everybody',
      valid('    path', '    mode: "0644"\n    path'),
      `${deployment}.mode: expected "0600", "0640"`,
    ],
    [
      'with a mode that YAML reads as 600',
      valid('    path', '    mode: 0600\n    path'),
      `${deployment}.mode: expected "0600", "0640"`,
    ],
    [
      'with the name of an owner',
      valid('    path', '    owner: haproxy\n    path'),
      `${deployment}.owner: expected a user id as a number, as \`id -u haproxy\``,
    ],
    [
      'to the same path as another',
      second('path: /p.pem'),
      'deployments[1].path: deployments[0].path is the same place',
    ],
    [
      'to the same path with another file',
      second('path: /p.pem, file: /q.pem'),
      'deployments[1].path: deployments[0].path is the same place',
    ],
    [
      'to the same file as another',
      second('path: /q.pem, file: /p.pem'),
      'deployments[1].file: deployments[0].path is the same place',
    ],
    [
      'with a copy onto another',
      second('path: /q.pem, copies: [/r.pem, /p.pem]'),
      'deployments[1].copies[1]: deployments[0].path is the same place',
    ],
    [
      'with a copy onto itself',
      valid('    path', '    copies: [/p.pem]\n    path'),
      `${deployment}.copies[0]: ${deployment}.path is the same place`,
    ],
  ])('%s', (_when, text, expected) => {
    expect(mistake(text)).toContain(expected);
  });

  test('but the path of one may be the file of another', () => {
    const text = valid('    path: /p.pem', '    path: /p.pem\n    file: /srv/p.pem');
    expect(
      mistakesIn(`${text}  - { certificate: external, pool: lb, path: /q.pem, file: /p.pem }\n`),
    ).toEqual([]);
  });
});

describe('a service setting is refused', () => {
  test.each([
    ['challenge: { listen: "10.0.0.5" }', 'challenge.listen: expected a port too'],
    ['challenge: { listen: ":8081" }', 'challenge.listen: expected "HOST:PORT"'],
    ['challenge: { listen: "fd00::1:8081:zz" }', 'challenge.listen: expected "HOST:PORT"'],
    ['operations: { listen: 8083 }', 'operations.listen: expected an address and a port'],
    ['challenge: { resolvers: [dns.example.org] }', 'challenge.resolvers[0]: expected an IP address'],
    ['challenge: { resolvers: [] }', 'challenge.resolvers: expected off, or a list of DNS resolvers'],
    ['challenge: { resolvers: on }', 'challenge.resolvers: expected off, or a list of DNS resolvers'],
    ['challenge: { resolvers: off }', 'challenge.resolvers: a direct self-check needs to know'],
    [
      'challenge: { resolvers: off, selfCheck: { passes: 3 } }',
      'challenge.resolvers: a direct self-check needs to know',
    ],
    [
      'challenge: { selfCheck: { passes: 11 } }',
      'challenge.selfCheck.passes: expected a whole number from 1 to 10',
    ],
    ['challenge: { selfCheck: on }', 'challenge.selfCheck: expected direct, off, or { via: URL }'],
    [
      'challenge: { selfCheck: { via: 10.0.0.10 } }',
      'challenge.selfCheck.via: expected an http or https URL',
    ],
    [
      'challenge: { selfCheck: { via: "http://a", url: x } }',
      'challenge.selfCheck.url: unknown key; expected one of via, passes',
    ],
    ['reconcile: { every: 31s }', 'reconcile.every: expected a duration from 1s to 30s: kacme promises'],
    ['reconcile: { every: "20" }', 'reconcile.every: expected a duration with a unit'],
    ['reconcile: { every: 1h30m }', 'reconcile.every: expected a duration with a unit'],
    ['keepBundles: -1', 'keepBundles: expected a whole number from 0 to 100'],
    ['control: { socket: kacme.sock }', 'control.socket: expected an absolute path'],
    [`store: { file: /${'x'.repeat(100)} }`, 'store.file: too long for the control socket in it'],
    ['log: { level: warning }', 'log.level: expected one of trace, debug, info, warn, error'],
    ['log: loud', 'log: expected { level: info }'],
    ['<<: { a: 1 }', '["<<"]: unknown key'],
    ['keepBundels: 2', 'keepBundels: unknown key; did you mean "keepBundles"?'],
    ['__proto__: { a: 1 }', '__proto__: unknown key'],
  ])('%s', (line, expected) => {
    expect(mistake(`${VALID}${line}\n`)).toContain(expected);
  });

  test('when both servers have one address', () => {
    const text = `${VALID}challenge: { listen: "127.0.0.1:80" }\noperations: { listen: "127.0.0.1:80" }\n`;
    expect(mistake(text)).toContain('operations.listen: challenge.listen has the same address');
  });
});

test('an empty configuration is told everything it needs', () => {
  expect(mistakesIn('').map((line) => line.replace(/: is required.*/, ''))).toEqual([
    '1:1: issuers',
    '1:1: certificates',
    '1:1: pools',
    '1:1: deployments',
  ]);
});
